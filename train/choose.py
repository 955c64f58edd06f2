"""Compares changes of the default's meta-parameters, before the suite is run.

Each trains the networks that meta-parameters are chosen on: those of the split
meta_valid, with 600 and with 3,000 examples. Prints by how many percent the
validation loss ends above that of AdamW with warmup and cosine; with --untold,
where nobody is told the length of the training, above that of Adam. Each run is
a file in --output_dir, as of train.suite. Needs Fashion-MNIST. Examples:

  python -m train.choose --download --output_dir=runs/choose \
      --change="decay.one=2" --change="decay.one=2 constants.limit=1.5"
  python -m train.choose --download --output_dir=runs/choose --untold \
      --change="schedule.unknown_power=0.5"
"""

import pathlib

from absl import flags

from train import cli
from train.suite import opponents
from train.suite import report
from train.suite.__main__ import run
from train.suite.tasks import validation


def define_flags():
    flags.DEFINE_string(
        "output_dir", None, "Folder of the runs.", required=True
    )
    flags.DEFINE_multi_string(
        "change",
        [],
        "New values of meta-parameters, such as 'decay.one=2 slow.fall=-1': of "
        "controls by signals, and of constants, decays and schedule by names. "
        "Can be repeated: each is a column of the table.",
    )
    flags.DEFINE_integer("num_steps", 1000, "Steps, a multiple of 20.")
    flags.DEFINE_bool("untold", False, "Do not tell the length.")
    flags.DEFINE_integer("seeds", 1, "Runs of each.", lower_bound=1)
    flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
    flags.DEFINE_bool(
        "replace",
        False,
        "Run again what has run with another configuration.",
    )
    cli.define_folder_flags()
    flags.adopt_module_key_flags(cli)


def main():
    values = flags.FLAGS
    reference, base = opponents.ADAMW_FIXED, report.LEARNED
    if values.untold:
        reference, base = report.ADAM, report.WITHOUT_LENGTH
    tasks = validation.tasks(values.data_dir, values.download)
    found = run(
        {
            name: task._replace(num_steps=values.num_steps)
            for name, task in tasks.items()
        },
        [reference, base, *(f"{base}: {change}" for change in values.change)],
        {},
        pathlib.Path(values.output_dir),
        values.seeds,
        values.workers,
        values.replace,
    )
    print(report.format_relative(report.summarize(found), reference))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
