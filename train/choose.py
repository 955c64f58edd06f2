"""Compares changes of the default's meta-parameters, before the suite is run.

Each trains the networks that meta-parameters are chosen on: those of the split
meta_valid, with 600, 3,000 and 10,000 examples. Prints by how many percent the
validation loss ends above that of AdamW with warmup and cosine; with --untold,
where nobody is told the length of the training, above that of Adam. Each run is
a file in --output_dir, as of train.suite. Needs Fashion-MNIST. Examples:

  python -m train.choose --download --output_dir=runs/choose \
      --change="decay.one=2" --change="decay.one=2 constants.limit=1.5"
  python -m train.choose --download --output_dir=runs/choose --untold \
      --change="schedule.unknown_power=0.5"
"""

from absl import flags

from train import cli
from train.suite import __main__ as suite
from train.suite import opponents
from train.suite import report
from train.suite.tasks import networks


def define_flags():
    flags.DEFINE_multi_string(
        "change",
        [],
        "New values of meta-parameters, such as 'decay.one=2 slow.fall=-1': of "
        "controls by signals, and of constants, decays and schedule by names. "
        "Can be repeated: each is a column of the table.",
    )
    flags.DEFINE_bool("untold", False, "Do not tell the length.")
    suite.define_run_flags(seeds=1)
    flags.adopt_module_key_flags(suite)


def main():
    values = flags.FLAGS
    reference, base = opponents.ADAMW_FIXED, report.LEARNED
    if values.untold:
        reference, base = report.ADAM, report.WITHOUT_LENGTH
    found = suite.run(
        networks.validation(values.data_dir, values.download),
        [reference, base, *(f"{base}: {change}" for change in values.change)],
        {},
    )
    print(report.format_relative(report.summarize(found), reference))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
