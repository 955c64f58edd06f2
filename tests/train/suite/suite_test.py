"""The suite: its runs, its tasks, and its statistics."""

import importlib.util
import json
import multiprocessing
import os
import pickle
import threading

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from keras_l2l.tasks import networks
from keras_l2l.utils import files
from train import committed
from train import report
from train.suite import __main__ as suite
from train.suite import opponents
from train.suite import report as suite_report
from train.suite import training
from train.suite.tasks import TASKS
from train.suite.tasks import base
from train.suite.tasks import data
from train.suite.tasks import gan
from train.suite.tasks import pinn
from train.suite.tasks.networks import held_out


def line():
    x = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
    y = x[:, :1] - 2 * x[:, 1:]
    return (x[:30], y[:30]), (x[30:], y[30:])


def dense():
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, name="head")]
    )


def tiny(name, **kwargs):
    return base.SuiteTask(
        name, "line", line, dense, "mse", "mae", 4, 10, **kwargs
    )


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs the script on tiny tasks, and what it printed."""
    two = tiny("two", example_optimizer=keras.optimizers.SGD)
    tasks = {"one": tiny("one"), "two": two}
    monkeypatch.setattr(suite, "TASKS", tasks)

    def run(*given):
        with flagsaver.flagsaver():
            suite.define_flags()
            folder = f"--output_dir={tmp_path}"
            flags.FLAGS(["suite", folder, "--workers=1", *given])
            try:
                suite.main()
            finally:
                flags.FLAGS.unparse_flags()
        return capsys.readouterr().out

    return run


def test_a_run_goes_on_and_refuses_another_configuration(run, tmp_path):
    given = ("--optimizer=adam", "--optimizer=example", "--seeds=1")
    output = run(*given)
    # The first task has no optimizer of an example.
    assert "3/3" in output and "Validation loss at the end" in output
    paths = sorted(tmp_path.glob("runs/*/*.json"))
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    assert names == ["one/adam_0", "two/adam_0", "two/example_0"]
    before = {path: path.stat() for path in paths}
    first = json.loads((tmp_path / "suite.json").read_text())["rows"]
    assert [f"{r['task']}/{r['optimizer']}_0" for r in first] == names

    # A seed more of one task: what is there is not run again.
    output = run(*given, "--task=one", "--seeds=2")
    assert "1/1" in output
    assert {path: path.stat() for path in paths} == before
    (row,) = json.loads((tmp_path / "suite.json").read_text())["rows"]
    assert first[0]["valid_loss_ci95"] is None and row["valid_loss_ci95"] > 0
    # Which counts from then on.
    output = run(*given, "--seeds=1")
    rows = json.loads((tmp_path / "suite.json").read_text())["rows"]
    assert rows[0] == row and [r["seeds"] for r in rows] == [2, 1, 1]

    with pytest.raises(ValueError, match="3 of others, such as .*one/adam_0"):
        run(*given, "--num_steps=3")
    assert {path: path.stat() for path in paths} == before
    changed = ("--task=one", "--seeds=1", "--num_steps=3", "--replace")
    assert "1/1" in run(*given, *changed)
    assert json.loads(paths[0].read_text())["steps"] == [0, 1, 2, 3]


def test_held_out_networks_are_reported_apart(run, tmp_path, monkeypatch):
    tested = {"digits": networks.TEST_NETWORKS["digits_relu"]}
    monkeypatch.setattr(networks, "TEST_NETWORKS", tested)
    run("--networks", "--optimizer=adam", "--seeds=1", "--num_steps=2")
    (row,) = json.loads((tmp_path / "networks.json").read_text())["rows"]
    assert (row["task"], row["params"]) == ("digits", 64 * 32 + 32 + 330)
    train, held_out_data = held_out()["digits"].data()
    seen, unseen = ({x.tobytes() for x in d[0]} for d in (train, held_out_data))
    assert len(seen) > 800 and unseen and not seen & unseen


@pytest.mark.slow
def test_two_workers(tmp_path):
    done = forked.run(
        *("suite", "--task=pinn", "--optimizer=adam", "--optimizer=muon"),
        *("--num_steps=2", "--seeds=1", f"--output_dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    assert "2/2" in done.stdout and "In short" not in done.stdout
    rows = json.loads((tmp_path / "suite.json").read_text())["rows"]
    assert [row["optimizer"] for row in rows] == ["adam", "muon"]


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="of Linux alone"
)
def test_each_worker_has_a_core_of_its_own(monkeypatch):
    # It can be told so before it begins alone.
    for kind in ("inter", "intra"):
        name = f"set_{kind}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, name, lambda number: None)
    begun, found = multiprocessing.Value("i", 0), []

    def work():
        training.use_one_core(begun)
        found.append(os.sched_getaffinity(0))

    # A thread's cores are its own, so that this one keeps all.
    for _ in range(2):
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    cores = sorted(os.sched_getaffinity(0))
    assert found == [{cores[0]}, {cores[1 % len(cores)]}]


@pytest.mark.slow
def test_processes_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "_RUNS_OF_A_PROCESS", 1)
    task = suite.TASKS["pinn"]._replace(num_steps=2)
    paths = [tmp_path / f"{seed}.json" for seed in range(3)]
    suite._run_jobs(
        [(task, "adam", {}, i, path) for i, path in enumerate(paths)], workers=2
    )
    assert all(files.read_json(path)["steps"] == [0, 1, 2] for path in paths)


def test_a_run_says_what_was_trained(tmp_path):
    path = tmp_path / "run.json"
    training.run(tiny("one"), "default", {}, 0, path)
    found = files.read_json(path)
    assert found["params"] == 3 and found["metric_name"] == "mae"
    assert len(found["train_loss"]) == 4
    assert len(found["valid_loss"]) == len(found["metric"]) == 5
    assert found["valid_loss"][-1] < found["valid_loss"][0]
    assert found["ms_per_step"] > 0


def test_every_optimizer_starts_from_the_same_model():
    runs = [
        training.train(tiny("one"), opponents.table({})[name], seed)
        for name, seed in (("adam", 0), ("muon", 0), ("adam", 1))
    ]
    starts = [found["valid_loss"][0] for found in runs]
    assert starts[0] == starts[1] != starts[2]
    # The first batch, too; the second one is seen after a step.
    assert runs[0]["train_loss"][0] == runs[1]["train_loss"][0]
    assert runs[0]["valid_loss"][-1] != runs[1]["valid_loss"][-1]


def test_a_configuration_knows_what_changes_a_run():
    table = opponents.table({})
    task = tiny("one")
    configs = [
        training.config_of(one, table[name])
        for one, name in (
            (task, "adamw 0.01"),
            (task, "adamw 0.03"),
            (task._replace(num_steps=8), "adamw 0.01"),
            (task._replace(batch_size=5), "adamw 0.01"),
            (task._replace(model=pinn.PINN), "adamw 0.01"),
            (task, "default"),
            (task, "fresh"),
        )
    ]
    assert len({json.dumps(config) for config in configs}) == len(configs)
    again = training.config_of(task, table["fresh"])
    assert again == configs[-1]
    assert training.config_of(task, table["example"]) is None


def test_runs_of_the_earlier_package_stay_valid(tmp_path):
    code = "from train.{} import data\n\nNUM_CLASSES = {}\n"
    hashes = []
    for content in (("suite_tasks", 3), ("suite.tasks", 3), ("suite.tasks", 4)):
        (tmp_path / "task.py").write_text(code.format(*content))
        hashes.append(base._sha256(tmp_path / "task.py"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_learned_optimizers_know_the_length_but_for_one():
    task = tiny("one")._replace(num_steps=123)
    rules = {
        name: opponents.table({})[name](task).rule
        for name in ("default", "default without length", "fresh")
    }
    if "num_steps" in rules["default"].get_config():
        assert rules["default"].num_steps == rules["fresh"].num_steps == 123
        assert rules["default without length"].num_steps is None


def test_an_ablation_is_the_default_without_a_part():
    x = np.random.default_rng(0).normal(size=(2, 20, 10)).astype("float32")
    found = {}
    for name in ("default", *opponents.ABLATIONS):
        optimizer = opponents.table({})[name](tiny("one"))
        variable = keras.Variable(x[0])
        optimizer.build([variable])
        optimizer.apply([keras.ops.convert_to_tensor(x[1])])
        assert optimizer.rule.num_steps == 4
        found[name] = variable.numpy().tobytes()
    assert len({*found.values()}) == len(found)


def test_ablations_are_shown_against_the_default(run, tmp_path, monkeypatch):
    two = {name: opponents.ABLATIONS[name] for name in ("one rate", "no limit")}
    monkeypatch.setattr(opponents, "ABLATIONS", two)
    monkeypatch.setattr(training, "POINTS", 2)
    output = run("--ablations", "--task=one", "--seeds=1", "--num_steps=20")
    assert "the validation loss ends above that of default:" in output
    assert "geometric mean" in output and "median" in output
    assert "diverges" not in output
    path = tmp_path / "ablations_of_default.json"
    rows = json.loads(path.read_text())["rows"]
    loss = {(r["task"], r["optimizer"]): r["valid_loss"] for r in rows}
    percent = [
        f"{100 * (loss['one', name] / loss['one', 'default'] - 1):+.0f}"
        for name in opponents.ABLATIONS
    ]
    (line,) = [x for x in output.splitlines() if x.startswith("one ")]
    assert line.split() == ["one", *percent]


def test_warmup_and_cosine():
    schedule = opponents.warmup_cosine(0.01, 200)
    found = [float(schedule(step)) for step in (0, 5, 10, 105, 200)]
    np.testing.assert_allclose(found, [0, 0.005, 0.01, 0.005, 0], atol=1e-8)


def test_missing_packages_are_named_with_the_way_out():
    tasks = [tiny("one", packages=("no_such_package",)), tiny("two")]
    with pytest.raises(ValueError) as error:
        base.require_packages(tasks)
    message = str(error.value)
    assert "no no_such_package" in message and "of them: two" in message
    assert "pip install keras_l2l[suite]" in message
    base.require_packages(tasks[1:])


def test_weights_that_are_not_given_are_asked_for(run):
    with pytest.raises(ValueError, match="Received: celo2 without one"):
        run("--optimizer=adam", "--optimizer=celo2")


def test_an_optimizer_that_no_task_has_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="Received: example for one. Choose"):
        run("--task=one", "--optimizer=example")
    assert not [*tmp_path.iterdir()]


def test_steps_divide_into_points(run):
    with pytest.raises(ValueError, match="multiple of 20"):
        run("--optimizer=adam", "--num_steps=41")


@pytest.mark.parametrize("name", TASKS)
def test_a_model_takes_its_data(name):
    task = TASKS[name]
    for package in task.packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    train, valid = task.data()
    for x, y in (train, valid):
        assert len(x) == len(y) > 300
        assert all(np.isfinite(values).all() for values in (x, y))
    assert task.name == name and task.num_steps <= 2000
    # Other processes get it.
    assert pickle.loads(pickle.dumps(task)).get_config() == task.get_config()
    model = task.model()
    optimizers = [keras.optimizers.SGD()] * task.num_optimizers
    model.compile(*optimizers, loss=task.loss, run_eagerly=True)
    found = model.evaluate(*(v[:8] for v in valid), verbose=0, return_dict=True)
    assert np.isfinite(found["loss"]) and found["loss"] > 0
    # Muon must know the output layer.
    if name != "recommender":
        paths = [v.path for v in model.trainable_variables]
        assert any(f"/{path}".endswith("/head/kernel") for path in paths)


def test_windows_are_followed_by_the_next_character():
    text = "def f(x):\n    return x\n" * 3
    codes = data.encode(text)
    assert "".join(data.CHARACTERS[c] for c in codes) == text
    x, y = data.windows(codes, 5, 4)
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])


def test_frechet_distance_and_coverage_of_the_gan():
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    far = x + np.float32([30, 40, 0])
    assert abs(gan._frechet_distance(x, x)) < 1e-4
    np.testing.assert_allclose(gan._frechet_distance(x, far), 2500, rtol=1e-4)
    scaled = 2 * (x - x.mean(axis=0))
    centered = scaled / 2
    expected = np.trace(np.cov(centered.T, bias=True))
    found = gan._frechet_distance(centered, scaled)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert gan._coverage(x, x) == 1 and gan._coverage(x, far) == 0
    # One point for all: collapsed.
    assert 0 < gan._coverage(x, np.tile(x[:1], (200, 1))) < 0.1


def test_the_solution_fulfils_the_equation_of_the_pinn():
    points = np.array([[0.3, 0.4], [-0.6, 0.2], [0.05, 0.9]])
    h = 1e-3

    def u(dx, dt):
        return pinn.solution(points + np.array([dx, dt]))

    u_t = (u(0, h) - u(0, -h)) / (2 * h)
    u_x = (u(h, 0) - u(-h, 0)) / (2 * h)
    u_xx = (u(h, 0) - 2 * u(0, 0) + u(-h, 0)) / h**2
    residual = u_t + u(0, 0) * u_x - 0.05 * u_xx
    np.testing.assert_allclose(residual, 0, atol=1e-3)
    start = pinn.solution(np.array([[0.3, 0.0]]))
    np.testing.assert_allclose(start, -np.sin(np.pi * 0.3))


def finished(*curve, metric=0.5, ms=2.0):
    return {
        "steps": [10 * i for i in range(len(curve))],
        "train_loss": curve[1:],
        "valid_loss": curve,
        "metric_name": "accuracy",
        "metric": [metric] * len(curve),
        "ms_per_step": ms,
        "params": 3,
        "versions": {},
    }


RUNS = {
    ("t", "default"): [finished(4, 1, 2, ms=3.0), finished(4, 2, 1, ms=9.0)],
    ("t", "adam"): [finished(4, 3, 2), finished(4, 3, 2, metric=0.7)],
    ("t", "adamw 0.003"): [finished(4, 3, 3)] * 2,
    ("t", "adamw 0.01"): [finished(4, 3, 1)] * 2,
    ("u", "default"): [finished(4, None, None)] * 2,
    ("u", "adam"): [finished(4, 3, 2)] * 2,
}


def test_statistics_over_seeds():
    rows = {
        (r["task"], r["optimizer"]): r for r in suite_report.summarize(RUNS)
    }
    row = rows["t", "default"]
    assert row["valid_loss"] == 1.5
    # Student's t of two values, which are 1 apart.
    np.testing.assert_allclose(row["valid_loss_ci95"], 12.706 / 2, rtol=1e-4)
    assert (row["best_valid_loss"], row["first_loss"]) == (1, 1.5)
    assert (row["steps_to_adam"], row["seconds_to_adam"]) == (10, 0.03)
    assert rows["t", "adam"]["steps_to_adam"] == 20
    assert rows["t", "adamw 0.003"]["steps_to_adam"] is None
    assert rows["u", "default"]["valid_loss"] == np.inf


def test_figures_count_tasks():
    lines = suite_report.figures(suite_report.summarize(RUNS))
    assert lines == [
        "- default ends at or below adam on 1 of 2 tasks; more than 2 % above "
        "on u (+inf %); accuracy at its worst -10.00 points (t); at its loss "
        "in less time on 1",
        "- default ends at or below adamw 0.003 on 1 of 1 tasks; more than 3 % "
        "above on none; accuracy at its worst +0.00 points (t)",
        "- default ends at or below adamw best on 0 of 1 tasks; more than 3 % "
        "above on t (+50.0 %); accuracy at its worst +0.00 points (t)",
        "- default diverges on u",
        "- seeds: 2 of default, adam, adamw 0.003, adamw 0.01",
    ]


def test_the_loss_before_fine_tuning_is_told_once():
    runs = {
        ("fine_tuning", "default"): [finished(4, 2, 1)],
        ("fine_tuning", "adam"): [finished(4, 3, 2)],
    }
    lines = suite_report.figures(suite_report.summarize(runs))
    line = "- loss after the first epoch of fine-tuning, 4 before it: "
    assert f"{line}default 2, adam 3" in lines


def test_optimizers_are_compared_on_the_same_seeds():
    runs = {
        ("t", "default"): [finished(4, 2), finished(4, 9), finished(4, 9)],
        ("t", "adam"): [finished(4, 3)],
    }
    line, *_ = suite_report.figures(suite_report.summarize(runs))
    assert "at or below adam on 1 of 1" in line


def test_a_committed_suite_is_shown_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(committed, "RESULTS", tmp_path / "results")
    rows = suite_report.summarize(RUNS)
    content = {"benchmark": "suite", "versions": {"commit": "abc"}}
    files.write_json(tmp_path / "suite.json", {**content, "rows": rows})
    name = committed.add(tmp_path / "suite.json", "suite", "make it")
    assert name == "benchmark/suite"
    page = f"<!-- {name} -->\n\n```\n```\n"
    shown = report.with_tables(page)
    assert suite_report.format_tables(rows) in shown
    assert "1.5 ±6" in shown and "diverges" in shown


def test_a_change_is_compared_on_the_same_seeds():
    rows = [
        {
            "task": "a",
            "optimizer": name,
            "seeds": seeds,
            "metric": None,
            "metric_of_first": None,
            "valid_loss": mean,
            "valid_loss_of_first": first,
        }
        for name, seeds, mean, first in (
            ("default", 3, 2.0, 1.0),
            ("one seed", 1, 1.5, 1.5),
            ("three seeds", 3, 3.0, 9.0),
        )
    ]
    table = suite_report.format_relative(rows, "default")
    rows = [line.split() for line in table.splitlines()]
    assert ["a", "+50", "+50"] in rows
