"""Measures speed, as ratios within one run.

Prints a table and writes --output (JSON). Medians of --repeats rounds; in each
round everything that is compared runs once, so that what slows the machine
slows all alike. Benchmarks:

  startup: seconds to import the package, to build the optimizer for a model
      of 100 variables, and to trace its train step, beside Adam.
  first_step: CPU seconds until a model has taken its first step, and until
      the next model of the same shapes has, beside Adam.
  update: nanoseconds per coordinate of one update, and memory, by the number
      and size of variables, beside Adam.
  rules: one update of a million parameters by each rule, beside Adam, the
      seconds of the first two, and the numbers of its state.
  frameworks: the same for 1,048,576 coordinates, beside the same LSTM in JAX
      and PyTorch (where installed) and the time of its matrix products alone.
  overhead: the share that the optimizer takes of a train step, for three
      kinds of models.
  meta_training: inner steps per second, beside JAX; seconds to the end of the
      first meta-step, and memory, by horizon and unroll length.
  scaling: meta-steps of several workers.

Example:

  python -m train.benchmark --benchmark=startup --output=runs/startup.json
"""

import os
import pathlib
import platform

import tabulate
from absl import flags

from keras_l2l.utils import files
from keras_l2l.utils.versions import versions
from train import cli
from train.benchmarks import meta_training
from train.benchmarks import overhead
from train.benchmarks import scaling
from train.benchmarks import startup
from train.benchmarks import update

# Each is a function of the number of repeats that returns a table's rows.
BENCHMARKS = {
    "startup": startup.startup,
    "first_step": startup.first_step,
    "update": update.update,
    "rules": update.rules,
    "frameworks": update.frameworks,
    "overhead": overhead.overhead,
    "meta_training": meta_training.meta_training,
    "scaling": scaling.scaling,
}


def format_table(rows):
    """Returns the rows as text in columns, numbers with three digits."""
    return tabulate.tabulate(
        rows,
        headers="keys",
        tablefmt="plain",
        floatfmt=".3g",
        missingval="-",
        numalign="left",
    )


def _cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [x.split(":")[1].strip() for x in lines if "model name" in x]
    return names[0] if names else platform.machine()


def define_flags():
    flags.DEFINE_enum(
        "benchmark",
        "startup",
        sorted(BENCHMARKS),
        "What is measured.",
    )
    flags.DEFINE_integer("repeats", 5, "Medians of this many.", lower_bound=1)
    flags.DEFINE_string("output", None, "New JSON file.", required=True)


def main():
    values = flags.FLAGS
    output = files.require_new(values.output)
    rows = BENCHMARKS[values.benchmark](values.repeats)
    content = {
        "benchmark": values.benchmark,
        "repeats": values.repeats,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        ),
        "versions": versions(),
        "rows": rows,
    }
    output = files.write_new(output, files.to_json(content))
    print(format_table(rows))
    print(f"Written: {output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
