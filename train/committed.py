"""The results in train/results/, which the pages of the docs show.

An experiment is a folder of figures and three files:

  results.csv: a row for each number, with its interval, the number of seeds,
      the commit and the command.
  curves.npz: for each test an array `[optimizers, 3, points]`, mean curves and
      the bounds of their intervals, with the points of a figure.
  tests.json: a line for each test, with its task, versions and seeds (a range).

Baselines of another test are only in the rows of that test, which tests.json
names. A benchmark is a table, benchmark/NAME.csv.
"""

import csv
import io
import itertools
import json
import pathlib

import numpy as np

from keras_l2l.evaluation import summary as results_lib
from keras_l2l.utils import files

RESULTS = pathlib.Path(__file__).parent / "results"
# The last columns of a benchmark.
_ABOUT = ("repeats", "cpu", "cores", "versions", "commit", "command")


def names():
    """Returns the names of all results, such as "long/fashion_conv"."""
    tests = (
        f"{path.parent.name}/{test}"
        for path in sorted(RESULTS.glob("*/tests.json"))
        for test in files.read_json(path)
    )
    tables = sorted(RESULTS.glob("benchmark/*.csv"))
    return [*tests, *(f"benchmark/{path.stem}" for path in tables)]


def read(name):
    """Returns an evaluation or a benchmark, like the JSON file of a run.

    Args:
        name: One of `names`, or the path of a JSON file.
    """
    if name not in names():
        return files.read_json(name)
    experiment, _, test = name.partition("/")
    if experiment == "benchmark":
        return _read_benchmark(test)
    about, optimizers = _load(experiment)[test]
    results = [_result(*optimizer) for optimizer in optimizers.values()]
    if about.get("baselines"):
        shared = read(about["baselines"])["results"]
        results += [r for r in shared if r["tuned_for"] is not None]
    for seeds in ("seeds", "tuning_seeds"):
        about[seeds] = list(range(*about[seeds]))
    return {**about, "results": results}


def read_baselines(name, task):
    """Returns an evaluation for the argument `earlier` of `evaluate`.

    Args:
        name: As for `read`.
        task: `Task` or `TaskFamily`.

    Raises:
        ValueError: if the losses of some steps were not kept.
    """
    found = read(name)
    if name not in names():
        return found
    for result in found["results"]:
        if len(result["losses"]) * found.get("block", 1) != found["horizon"]:
            raise ValueError(
                "--baselines must have the losses of all steps. Received: "
                f"{name}, which has as many as a figure shows. Leave it out."
            )
        for milestone in ("loss_at_1000", "loss_at_1000_ci95", "steps_to_adam"):
            result.pop(milestone, None)
    # Results omit the model, which the name of the network determines.
    config = files.from_json(files.to_json(task.get_config()), task.name)
    return {**found, "task_config": {**config, **found["task_config"]}}


def add(path, experiment, command):
    """Adds the result of a run, and replaces one with the same name.

    Args:
        path: Path of a JSON file of `train.evaluate`, `train.reproduce`,
            `train.benchmark` or `train.ablate`. `evaluation_TEST.json` becomes
            the test `TEST`, and `evaluation.json` the test `base`.
        experiment: String, the folder of an evaluation.
        command: String, the command of the run.

    Returns:
        String, the name of the result.

    Raises:
        ValueError: if its baselines are new, but other results use the old.
    """
    content = files.read_json(path)
    if "benchmark" in content:
        return _add_benchmark(content, command)
    test = pathlib.Path(path).stem.removeprefix("evaluation").strip("_")
    test = test or "base"
    name, source = f"{experiment}/{test}", content.pop("baselines", None)
    for other in names():
        if source != name and read(other).get("baselines") == name:
            raise ValueError(
                "An evaluation must have the baselines that others have taken "
                f"from it. Received: {path}, with new ones, while {other} has "
                f"those of {name}. Evaluate with --baselines={name}."
            )
    optimizers = _optimizers(content, test, command)
    about = {k: v for k, v in content.items() if k != "results"}
    about["task_config"].pop("model", None)
    for seeds in ("seeds", "tuning_seeds"):
        about[seeds] = [about[seeds][0], about[seeds][-1] + 1]
    tests = _load(experiment)
    if source == name:
        for key, (rows, curve) in tests[test][1].items():
            if rows[0]["tuned_for"] != "learned":
                optimizers[key] = rows, curve
    elif source in names():
        about["baselines"] = source
        for result in read(source)["results"]:
            if result["tuned_for"] is not None:
                del optimizers[_key(result)]
    _save(experiment, {**tests, test: (about, optimizers)})
    # The figure is out of date.
    (RESULTS / experiment / f"curves_{test}.png").unlink(missing_ok=True)
    return name


def _load(experiment):
    """Returns the tests of an experiment.

    Returns:
        Dict from names to pairs of the entry in tests.json and a dict from
        optimizers with rates to pairs of rows (dicts) and curve.
    """
    folder, tests = RESULTS / experiment, {}
    if not folder.exists():
        return tests
    rows = _read_csv(folder / "results.csv")
    with np.load(folder / "curves.npz") as curves:
        for test, about in files.read_json(folder / "tests.json").items():
            of_test = (row for row in rows if row["test"] == test)
            groups = itertools.groupby(of_test, _key)
            tests[test] = (
                about,
                {
                    key: (list(group), curve)
                    for (key, group), curve in zip(
                        groups, curves[test], strict=True
                    )
                },
            )
    return tests


def _save(experiment, tests):
    """Writes what `_load` returns."""
    folder, rows, curves, lines = RESULTS / experiment, [], {}, []
    for test, (about, optimizers) in tests.items():
        rows += itertools.chain(*(rows for rows, _ in optimizers.values()))
        curves[test] = np.stack([curve for _, curve in optimizers.values()])
        lines.append(f"{json.dumps(test)}: {json.dumps(about)}")
    _write_csv(folder / "results.csv", rows)
    content = io.BytesIO()
    np.savez_compressed(content, **curves)
    files.write(folder / "curves.npz", content.getvalue())
    content = "{\n" + ",\n".join(lines) + "\n}\n"
    files.write(folder / "tests.json", content.encode())


def _key(row):
    return row["optimizer"], str(row["learning_rate"])


def _optimizers(evaluation, test, command):
    """Returns the optimizers of an evaluation, a dict as in `_load`."""
    optimizers = {}
    for result in results_lib.with_milestones(evaluation):
        tuned_for, versions = result["tuned_for"], evaluation["versions"]
        if tuned_for:
            versions = evaluation.get("baselines_versions", versions)
        rows = []
        for criterion in _criteria(result):
            low, high = result.get(f"{criterion}_ci95", (None, None))
            rows.append(
                {
                    "test": test,
                    "optimizer": result["optimizer"],
                    "learning_rate": result["learning_rate"],
                    "tuned_for": (
                        "learned" if tuned_for is None else " ".join(tuned_for)
                    ),
                    "criterion": criterion,
                    "value": result[criterion],
                    "low": low,
                    "high": high,
                    "seeds": len(evaluation["seeds"]),
                    "commit": versions["commit"],
                    "command": command,
                }
            )
        curve = results_lib.thinned([result["losses"], *result["losses_ci95"]])
        optimizers[_key(result)] = rows, curve.astype("float32")
    return optimizers


def _criteria(result):
    """Returns the names of the numbers in a result."""
    names = [n.removesuffix("_ci95") for n in result if n.endswith("_ci95")]
    names.remove("losses")
    return names + ["steps_to_adam"] * ("steps_to_adam" in result)


def _result(rows, curve):
    """Returns an entry of the results of an evaluation."""
    losses, *bounds = curve.tolist()
    tuned_for = rows[0]["tuned_for"]
    result = {
        "optimizer": rows[0]["optimizer"],
        "learning_rate": float(rows[0]["learning_rate"]),
        "tuned_for": None if tuned_for == "learned" else tuned_for.split(),
        "losses": losses,
        "losses_ci95": bounds,
    }
    for row in rows:
        name = row["criterion"]
        result[name] = _number(row["value"])
        if name != "steps_to_adam":
            result[f"{name}_ci95"] = [
                _number(row[bound]) for bound in ("low", "high")
            ]
    return result


def _read_benchmark(name):
    rows = _read_csv(RESULTS / "benchmark" / f"{name}.csv")
    return {
        "benchmark": name,
        "cores": _number(rows[0]["cores"]),
        "rows": [
            {k: _number(v) for k, v in row.items() if k not in _ABOUT}
            for row in rows
        ],
    }


def _add_benchmark(content, command):
    name, versions = content["benchmark"], dict(content["versions"])
    about = {
        **{key: content.get(key) for key in _ABOUT},
        "commit": versions.pop("commit"),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
        "command": command,
    }
    path = RESULTS / "benchmark" / f"{name}.csv"
    rows = [{**row, **about} for row in content["rows"]]
    if {"task", "optimizer"} <= {*rows[0]} and path.exists():
        # The suite is measured in parts: other tasks and optimizers stay.
        places = {
            (row["task"], row["optimizer"]): row
            for row in [*_read_csv(path), *rows]
        }
        # What is no longer measured goes.
        rows = [{k: row.get(k) for k in rows[0]} for row in places.values()]
    _write_csv(path, rows)
    path.with_suffix(".png").unlink(missing_ok=True)
    return f"benchmark/{name}"


def _read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write_csv(path, rows):
    content = io.StringIO()
    writer = csv.DictWriter(content, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write(path, content.getvalue().encode())


def _number(text):
    """Returns the number in a cell, or its text if it is not a number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text or None
