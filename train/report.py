"""Writes the tables and figures of the docs from train/results/.

A table follows a comment with the name of its result, such as
long/fashion_conv, or long/* for one table of all tests of an experiment. The
table of presets follows one with their name, and comes from their cards.
Missing figures of curves and benchmarks are drawn. With --add, files of a run
become results first. Examples:

  python -m train.report
  python -m train.report --add=runs/q/evaluation_base.json \
      --experiment=quadratics --command="python -m train.reproduce ..."
"""

import pathlib
import re

from absl import flags

from keras_l2l import presets
from keras_l2l.evaluation import plots
from keras_l2l.evaluation import summary
from train import benchmark
from train import cli
from train import committed
from train.suite.report import format_tables

ROOT = pathlib.Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_TABLE = re.compile(r"(<!-- (\S+/\S+) -->\n\n```\n).*?(?=```\n)", re.DOTALL)
_PRESETS = re.compile(r"(<!-- presets -->\n\n)(?:\|.*\n)*")
# The benchmarks that `train.suite` writes.
_OF_SUITE = ("suite", "networks", "ablations_of_default")
_FIGURE = re.compile(r"!\[[^]]*\]\((\S+)\)")


def define_flags():
    flags.DEFINE_multi_string("add", [], "JSON file of a run.")
    flags.DEFINE_string("experiment", None, "Folder for the files to add.")
    flags.DEFINE_string("command", None, "Command that made these files.")


def with_tables(text):
    """Returns a page with updated tables."""
    text = _PRESETS.sub(
        lambda found: f"{found[1]}{presets.shipped().to_markdown()}\n", text
    )
    return _TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}\n", text)


def tables_in(text):
    """Returns the names of the results in the tables of a page."""
    return [name for _, name in _TABLE.findall(text)]


def figures_in(page):
    """Returns the paths of the figures that a page shows."""
    return [
        (page.parent / path).resolve()
        for path in _FIGURE.findall(page.read_text())
    ]


def _table(name):
    if name.endswith("/*"):
        prefix = name.removesuffix("*")
        return summary.format_summary(
            {
                other.removeprefix(prefix): committed.read(other)
                for other in sorted(committed.names())
                if other.startswith(prefix)
            }
        )
    content = committed.read(name)
    if content.get("benchmark") in _OF_SUITE:
        return format_tables(content["rows"])
    if "benchmark" in content:
        return benchmark.format_table(content["rows"])
    return summary.format_table(content)


def draw(figure):
    """Draws a missing figure, if it shows a single result."""
    benchmarks = {"frameworks": plots.plot_frameworks}
    test = figure.stem.removeprefix("curves_")
    plot = plots.plot_curves if test != figure.stem else benchmarks.get(test)
    if plot is not None and not figure.exists():
        plot(committed.read(f"{figure.parent.name}/{test}"), figure)
        print(f"Written: {figure}")


def main():
    values = flags.FLAGS
    if values.add and None in (values.experiment, values.command):
        raise ValueError(
            "--add must be given with --experiment and --command. Received: "
            f"--experiment={values.experiment}, --command={values.command}."
        )
    for path in values.add:
        name = committed.add(path, values.experiment, values.command)
        print(f"Added: {name}")
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
        print(f"Written: {page}")
        for figure in figures_in(page):
            draw(figure)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
