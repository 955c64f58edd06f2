"""The flags of train.meta_train."""

import tensorflow as tf
from absl import flags

from train import cli
from train import experiments
from train import option_flags
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
        "the start, to fine-tune it or to continue with a longer horizon.",
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
        "resume", False, "Continue the run in --output_dir, if there is one."
    )
    flags.DEFINE_integer(
        "search",
        None,
        "Instead of a run: so many, with meta-learning rates drawn at random; "
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
    option_flags.define_flags()
    flags.adopt_module_key_flags(option_flags)
