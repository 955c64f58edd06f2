"""Writes the tables of results in README.md and train/results/README.md.

Each stands after a comment that names the JSON file that it is made of, a path
from the project's root; one with a * names those that are made into one table.
Example:

  python -m train.report
"""

import pathlib
import re

from keras_l2l import results
from keras_l2l import runs
from train import benchmark
from train import cli

ROOT = pathlib.Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "train" / "results" / "README.md")
_TABLE = re.compile(r"(<!-- (\S+\.json) -->\n\n```\n).*?(?=```\n)", re.DOTALL)


def with_tables(text):
    """Returns a page with its tables made anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}\n", text)


def tables_in(text):
    """Returns the paths of the files that a page has tables of."""
    return [path for _, path in _TABLE.findall(text)]


def _table(path):
    if "*" in path:
        prefix = path.rpartition("/")[2].partition("*")[0]
        return results.format_summary(
            {
                found.stem.removeprefix(prefix): runs.read_json(found)
                for found in sorted(ROOT.glob(path))
            }
        )
    content = runs.read_json(ROOT / path)
    if "benchmark" in content:
        return benchmark.format_table(content["rows"])
    return results.format_table(content)


def main():
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
        print(f"Written: {page}")


if __name__ == "__main__":
    cli.run(main)
