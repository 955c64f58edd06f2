"""Meta-trains an update rule on a task.

Writes to --output_dir: preset/ (for LearnedOptimizer.from_preset),
config.json (all that reproduces the run), history.json, and logs/ for
TensorBoard. Example:

  python -m train.meta_train --task=mlp --output_dir=runs/digits
"""

from absl import flags

import keras_l2l
from train import cli
from train import registry


def define_flags():
    cli.define_task_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_enum(
        "rule", "lstm", sorted(registry.RULES), "The update rule to fit."
    )
    flags.DEFINE_integer("horizon", 100, "Inner steps in an episode.")
    flags.DEFINE_integer("unroll_length", 20, "Inner steps per meta-step.")
    flags.DEFINE_integer("meta_batch_size", 1, "Episodes side by side.")
    flags.DEFINE_float("meta_learning_rate", 0.004, "Of the meta-Adam.")
    flags.DEFINE_integer("meta_steps", 4000, "Length of the run.")
    flags.DEFINE_bool(
        "second_derivatives",
        False,
        "Let the gradients that the rule sees depend on its meta-parameters.",
    )
    flags.DEFINE_integer("seed", 0, "The run is repeatable from it.")
    flags.DEFINE_string(
        "output_dir", None, "New or empty folder.", required=True
    )


def main():
    values = flags.FLAGS
    keras_l2l.meta_train(
        registry.RULES[values.rule](),
        cli.make_task(),
        values.output_dir,
        horizon=values.horizon,
        unroll_length=values.unroll_length,
        meta_batch_size=values.meta_batch_size,
        meta_learning_rate=values.meta_learning_rate,
        meta_steps=values.meta_steps,
        second_derivatives=values.second_derivatives,
        seed=values.seed,
    )
    print(f"Preset: {values.output_dir}/preset")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
