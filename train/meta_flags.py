"""The flags of train.meta_train."""

import tensorflow as tf
from absl import flags

from keras_l2l import estimators
from train import cli
from train import experiments
from train import registry

STRATEGIES = {
    "none": lambda: None,
    "mirrored": tf.distribute.MirroredStrategy,
    "workers": tf.distribute.MultiWorkerMirroredStrategy,
}


def define_flags():
    cli.define_task_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_enum(
        "experiment",
        None,
        sorted(experiments.EXPERIMENTS),
        "Take the settings of an experiment, such as those of the paper, for "
        "all flags that are not given.",
    )
    flags.DEFINE_bool(
        "quick", False, "Only 10 meta-steps of short episodes, to try it."
    )
    flags.DEFINE_enum(
        "rule", "lstm", sorted(registry.RULES), "The update rule to fit."
    )
    flags.DEFINE_string(
        "init_preset",
        None,
        "Preset, its name or its folder, whose rule and meta-parameters are "
        "the start: to fine-tune it, or to go on with a longer horizon.",
    )
    flags.DEFINE_string(
        "output_dir", None, "New or empty folder.", required=True
    )
    flags.DEFINE_enum(
        "distribute",
        "none",
        sorted(STRATEGIES),
        "Divide the meta-batch over the devices of this machine (mirrored), or "
        "over those of all workers in the environment variable TF_CONFIG.",
    )
    flags.DEFINE_bool(
        "resume", False, "Go on with the run in --output_dir, if there is one."
    )
    flags.DEFINE_integer(
        "search",
        None,
        "Instead of a run: as many, with meta-learning rates drawn at random; "
        "the best one's preset is kept.",
    )
    flags.DEFINE_bool(
        "check",
        False,
        "Instead of a run: try the task with plain Adam and a few meta-steps, "
        "and print losses, gradients, times, memory and what looks wrong.",
    )
    flags.DEFINE_integer(
        "replay",
        None,
        "Instead of a run: take this meta-step again, which the run in "
        "--output_dir skipped, and print its losses.",
    )
    _define_arguments()
    _define_further_arguments()


def _define_arguments():
    """Defines the flags that are arguments of `meta_train`."""
    flags.DEFINE_integer("horizon", 100, "Inner steps in an episode.")
    flags.DEFINE_integer("unroll_length", 20, "Inner steps per meta-step.")
    flags.DEFINE_integer("meta_batch_size", 1, "Episodes side by side.")
    flags.DEFINE_float("meta_learning_rate", 0.004, "Of the meta-Adam.")
    flags.DEFINE_integer("meta_steps", 4000, "Length of the run.")
    flags.DEFINE_float(
        "clipnorm", 1.0, "Norm that longer meta-gradients are clipped to."
    )
    flags.DEFINE_bool(
        "second_derivatives",
        False,
        "Let the gradients that the rule sees depend on its meta-parameters.",
    )
    flags.DEFINE_enum(
        "loss_weights",
        "sum",
        ["sum", "mean", "last", "log"],
        "Which losses of an unroll make the meta-loss, and how.",
    )
    flags.DEFINE_integer(
        "sampled_coordinates",
        0,
        "Estimate meta-gradients from the updates of at most so many "
        "coordinates of each variable: faster for large tasks. 0: of all.",
    )
    flags.DEFINE_enum(
        "teacher",
        "none",
        ["none", *registry.TEACHERS],
        "A rule whose updates are an example for those of --rule.",
    )
    flags.DEFINE_float("teacher_learning_rate", 0.01, "Of --teacher.")
    flags.DEFINE_float(
        "imitation_weight",
        1.0,
        "How much the relative error to the teacher's updates counts beside "
        "the losses.",
    )


def _define_further_arguments():
    flags.DEFINE_enum(
        "estimator",
        "backprop",
        list(estimators.ESTIMATORS),
        "How meta-gradients are found: by truncated backpropagation, or by "
        "evolution strategies, of each unroll or persistent.",
    )
    flags.DEFINE_integer(
        "pairs", 4, "Antithetic pairs of particles of evolution strategies."
    )
    flags.DEFINE_float("stddev", 0.01, "Of their perturbations.")
    flags.DEFINE_bool(
        "compile_unroll",
        False,
        "Let XLA compile the optimizee, too: for small ones.",
    )
    flags.DEFINE_float(
        "episode_clipnorm",
        None,
        "Norm that longer meta-gradients of single episodes are clipped to.",
    )
    flags.DEFINE_integer(
        "first_horizon",
        None,
        "How long episodes may be at first; they grow to --horizon in the "
        "first half of the run. Default: --horizon.",
    )
    flags.DEFINE_bool(
        "log_uniform_horizons",
        False,
        "Draw the lengths of episodes, up to the longest.",
    )
    flags.DEFINE_float(
        "random_scaling",
        None,
        "Multiply each coordinate of the parameters by a random factor, the "
        "exponential of at most this.",
    )
    flags.DEFINE_float(
        "reparametrization", None, "The same for each tensor as a whole."
    )
    flags.DEFINE_enum(
        "validation_task",
        None,
        sorted(registry.TASKS),
        "What is validated on. Default: --task.",
    )
    flags.DEFINE_integer("validation_interval", 250, "In meta-steps.")
    flags.DEFINE_integer("validation_episodes", 16, "In each validation.")
    flags.DEFINE_integer("seed", 0, "The run is repeatable from it.")
