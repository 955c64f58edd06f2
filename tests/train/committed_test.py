"""What is committed of a result is what pages show of it."""

import copy
import shlex

import numpy as np
import pytest

from keras_l2l.evaluation import plots
from keras_l2l.evaluation import summary
from keras_l2l.utils import files
from train import committed
from train import experiments
from train import registry
from train import report


def entry(optimizer, rate, tuned_for, seed, steps):
    rng = np.random.default_rng(seed)
    curves = rng.uniform(0.5, 2.0, size=(3, steps)).astype("float32")
    metrics = [{"test_loss": float(loss)} for loss in rng.uniform(size=3)]
    return {
        "optimizer": optimizer,
        "learning_rate": rate,
        "tuned_for": tuned_for,
        **summary.summarize(curves, metrics),
    }


def evaluation(seed=0, horizon=20, block=1, **more):
    steps = horizon // block
    return {
        "task": "task",
        "task_config": {"model": ["long"], "batch_size": 3},
        "horizon": horizon,
        "seeds": [0, 1, 2],
        "tuning_seeds": [3, 4],
        **({} if block == 1 else {"block": block}),
        "versions": {"keras": "3.0", "commit": f"commit{seed}"},
        "results": [
            entry("learned", 1.0, None, seed, steps),
            entry("adam_default", 0.001, [], 10, steps),
            entry("adam", 0.1, ["mean_loss"], 11, steps),
            entry("adam", 0.01, ["final_loss"], 12, steps),
        ],
        **more,
    }


@pytest.fixture
def add(tmp_path, monkeypatch):
    """A function that commits an evaluation as a name."""
    monkeypatch.setattr(committed, "RESULTS", tmp_path / "results")

    def add(content, name, command="make it"):
        experiment, _, test = name.partition("/")
        path = tmp_path / f"evaluation_{test}.json"
        files.write_json(path, content)
        return committed.add(path, experiment, command)

    return add


def rows(experiment):
    return committed._read_csv(committed.RESULTS / experiment / "results.csv")


def test_all_that_is_shown_is_kept_to_the_last_digit(add):
    content = evaluation()
    # As of a seed that has diverged.
    content["results"][3] |= {"final_loss": None, "losses": [1.0] + [None] * 19}
    assert add(content, "a/b") == "a/b"
    assert add(evaluation(horizon=2000, block=50), "a/long") == "a/long"
    assert committed.names() == ["a/b", "a/long"]
    found = committed.read("a/b")
    assert found["task_config"] == {"batch_size": 3}
    for name in ("task", "horizon", "seeds", "tuning_seeds", "versions"):
        assert found[name] == content[name]
    for result, expected in zip(
        found["results"], content["results"], strict=True
    ):
        kept = {k: v for k, v in expected.items() if "losses" not in k}
        kept = {k: v for k, v in kept.items() if "_median" not in k}
        assert {name: result[name] for name in kept} == kept
        np.testing.assert_array_equal(
            np.array(result["losses"]),
            np.array(expected["losses"], dtype=float).astype("float32"),
        )
    assert summary.format_table(found) == summary.format_table(content)
    long = evaluation(horizon=2000, block=50)
    table = summary.format_table(committed.read("a/long"))
    assert table == summary.format_table(long) and "steps to adam" in table
    assert {row["commit"] for row in rows("a")} == {"commit0"}
    assert {row["seeds"] for row in rows("a")} == {"3"}


def test_curves_are_as_long_as_a_figure_shows(add, tmp_path, monkeypatch):
    content = evaluation(horizon=1001)
    add(content, "a/b")
    found = committed.read("a/b")
    assert len(found["results"][0]["losses"]) == 200
    drawn = []
    monkeypatch.setattr(
        plots, "_save", lambda figure, path: drawn.append(figure)
    )
    for one in (content, found):
        plots.plot_curves(one, tmp_path / "new.png")
    expected, received = (figure.axes[0] for figure in drawn)
    assert received.get_ylabel() == expected.get_ylabel()
    for a, b in zip(received.get_lines(), expected.get_lines(), strict=True):
        np.testing.assert_allclose(a.get_xydata(), b.get_xydata(), rtol=1e-6)
    with pytest.raises(ValueError, match="losses of all steps. Received: a/b"):
        committed.read_baselines("a/b", None)


def test_baselines_of_others_are_not_repeated(add):
    first, second = evaluation(0), evaluation(1, baselines="a/b")
    # But for the one that the other has not got.
    del first["results"][1]
    add(first, "a/b")
    add(second, "c/d", "make another")
    assert [row["optimizer"] for row in rows("c")[::3]] == [
        "learned",
        "adam_default",
    ]
    found = committed.read("c/d")
    assert summary.format_table(found) == summary.format_table(second)
    # With its own it keeps who made them.
    again = evaluation(2, baselines="a/b")
    del again["results"][1]
    add(again, "a/b", "make it again")
    assert [(r["commit"], r["command"]) for r in rows("a")[::3]] == [
        ("commit2", "make it again"),
        *[("commit0", "make it")] * 2,
    ]
    other = copy.deepcopy(first)
    other["results"][1]["final_loss"] = 7.0
    with pytest.raises(ValueError, match="while c/d has those of a/b"):
        add(other, "a/b")
    assert (
        committed.read("a/b")["results"][0]["final_loss"]
        == (again["results"][0]["final_loss"])
    )


def test_an_outdated_figure_goes(add):
    add(evaluation(), "a/b")
    figure = committed.RESULTS / "a" / "curves_b.png"
    figure.touch()
    add(evaluation(), "a/other")
    assert figure.exists()
    add(evaluation(1), "a/b")
    assert not figure.exists()


def test_benchmarks_are_tables(add, tmp_path):
    rows = [
        {"who": "a, b", "n": 10_000, "ms": 0.1, "share": None},
        {"who": "1e3x", "n": 3, "ms": 2.0, "share": 0.25},
    ]
    content = {"benchmark": "rules", "cores": 2, "rows": rows}
    content["versions"] = {"keras": "3.0", "commit": "7e5"}
    files.write_json(tmp_path / "x.json", content)
    assert committed.add(tmp_path / "x.json", None, "y") == "benchmark/rules"
    found = committed.read("benchmark/rules")
    assert found == {k: content[k] for k in ("benchmark", "cores", "rows")}
    assert isinstance(found["rows"][0]["n"], int)
    text = (committed.RESULTS / "benchmark" / "rules.csv").read_text()
    assert text.splitlines()[1] == '"a, b",10000,0.1,,,,2,keras 3.0,7e5,y'


def test_the_suite_is_measured_in_parts(add, tmp_path):
    def measure(values, commit, **more):
        rows = [
            {"task": task, "optimizer": optimizer, "loss": loss, **more}
            for (task, optimizer), loss in values.items()
        ]
        content = {"benchmark": "suite", "cores": 2, "rows": rows}
        content["versions"] = {"keras": "3.0", "commit": commit}
        files.write_json(tmp_path / "suite.json", content)
        committed.add(tmp_path / "suite.json", None, "run")

    measure(
        {("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): 3.0}, "old", start=1.0
    )
    measure({("a", "x"): 4.0, ("b", "y"): 5.0}, "new")
    path = committed.RESULTS / "benchmark" / "suite.csv"
    titles, *lines = path.read_text().splitlines()
    assert "start" not in titles
    assert [line.split(",")[:3] + line.split(",")[-2:-1] for line in lines] == [
        ["a", "x", "4.0", "new"],
        ["a", "y", "2.0", "old"],
        ["b", "x", "3.0", "old"],
        ["b", "y", "5.0", "new"],
    ]


def test_committed_baselines_are_of_what_is_tested():
    tests = experiments.EXPERIMENTS["long"].tests
    assert len(tests) == 7
    for test in tests.values():
        found = committed.read(test.baselines)
        assert found["horizon"] == test.horizon
        assert found["block"] == test.block
        assert found["split"] == test.split
        assert found["learning_rates"] == list(test.learning_rates)
        assert len(found["seeds"]) == test.seeds
        assert len(found["tuning_seeds"]) == test.tuning_seeds
        assert not set(found["seeds"]) & set(found["tuning_seeds"])
    data = registry.Data("l2l_digits", None, False, None)
    task = registry.TASKS["digits_relu"](data)
    found = committed.read_baselines("long/digits_relu", task)
    config = files.from_json(files.to_json(task.get_config()), "task")
    assert found["task_config"] == config
    assert not any("steps_to_adam" in result for result in found["results"])


def test_flags_of_long_trainings_are_those_of_the_experiment():
    (path,) = committed.RESULTS.glob("long/flags.txt")
    given = shlex.split(path.read_text(), comments=True)
    test = experiments.EXPERIMENTS["long"].tests["fashion_wide"]
    assert given == [
        f"--split={test.split}",
        f"--horizon={test.horizon}",
        f"--block={test.block}",
        f"--seeds={test.seeds}",
        "--download",
        *(f"--learning_rates={rate}" for rate in test.learning_rates),
    ]


def test_missing_figures_of_one_result_are_drawn(add):
    add(evaluation(), "a/b")
    folder = committed.RESULTS / "a"
    for name in ("curves_b", "updates"):
        report.draw(folder / f"{name}.png")
    assert [path.name for path in folder.glob("*.png")] == ["curves_b.png"]
    (folder / "curves_b.png").write_bytes(b"")
    report.draw(folder / "curves_b.png")
    assert (folder / "curves_b.png").read_bytes() == b""
