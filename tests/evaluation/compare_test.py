import json

import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import rules
from keras_l2l.evaluation.compared import Compared

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
NO_DEFAULTS = {
    name: None
    for name in (
        *("LearnedOptimizer", "Adam"),
        *(f"AdamW {rate:g}" for rate in (0.0003, 0.001, 0.003, 0.01)),
    )
}


FINAL_LOSS = keras.metrics.MeanSquaredError(name="final_loss")


@pytest.fixture(autouse=True)
def four_validations(monkeypatch):
    """They are what takes the time of a short run."""
    monkeypatch.setattr("keras_l2l.evaluation.compare._POINTS", 4)


def make_model():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(2),
        ]
    )


def good():
    return keras_l2l.LearnedOptimizer(rule=rules.Adam(0.05))


def compare(optimizers, steps=30, defaults=NO_DEFAULTS, **arguments):
    return keras_l2l.compare(
        make_model,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        (X, Y),
        {**defaults, **optimizers},
        steps=steps,
        **{"verbose": 0, **arguments},
    )


def sgd(rate):
    return lambda: keras.optimizers.SGD(rate)


def test_a_clear_winner_is_named(tmp_path):
    result = compare(
        {"slow": sgd(1e-4), "slower": sgd(1e-5), "learned": good},
        metrics=["accuracy"],
    )
    assert result.best() == ["learned", "slow", "slower"]
    assert result.results["points"] == [1, 11, 20, 30]
    verdict = result.verdict()
    assert verdict.startswith("After 30 steps learned has the lowest")
    assert "; slow has" in verdict and "% higher" in verdict
    assert "intervals do not overlap: use learned." in verdict
    header, first, *_ = result.table().splitlines()
    assert first.startswith("learned") and "accuracy" in header
    assert verdict in str(result) and result.table() in repr(result)
    figure = result.plot(tmp_path / "compared.png")
    by_step, by_time = figure.axes
    # A validation and a training curve of each.
    assert len(by_step.lines) == len(by_time.lines) == 6
    assert (tmp_path / "compared.png").is_file()
    result.save(tmp_path / "compared.json")
    assert str(Compared.load(tmp_path / "compared.json")) == str(result)


def test_a_learned_optimizer_may_lose():
    slow = {**found(1.0, 0.9, 0.9), "learned": True}
    others = {"Adam": found(1.0, 0.1, 0.1), "SGD": found(1.0, 0.2, 0.2)}
    verdict = verdict_of(slow=slow, **others)
    assert "Adam has the lowest" in verdict and "use Adam" in verdict
    # The learned one is what it is compared with.
    assert "; slow has 0.9" in verdict


def test_what_has_diverged_loses():
    mad, sane = found(1.0, None, None), found(1.0, 0.1, 0.1)
    verdict = verdict_of(mad=mad, sane=sane)
    assert "sane has the lowest" in verdict and "mad has diverged" in verdict
    assert "intervals do not overlap: use sane" in verdict
    assert "All optimizers diverged" in verdict_of(a=mad, b=mad)


def test_the_same_optimizer_twice_is_no_winner():
    result = compare({"one": sgd(0.1), "other": sgd(0.1)})
    one, other = (
        [run["validation"] for run in found["runs"]]
        for found in result.results["optimizers"].values()
    )
    # The same weights, batches and dropout.
    assert one == other and len({json.dumps(v) for v in one}) == 3
    assert "intervals overlap" in result.verdict()


def found(seconds, *losses):
    """Returns the results of one optimizer, as `compare` has them."""
    run = {"loss": [1.0, 1.0], "seconds": [9.0, seconds]}
    validations = [[{"loss": 1.0}, {"loss": loss}] for loss in losses]
    runs = [{**run, "validation": v} for v in validations]
    return {"learned": False, "runs": runs}


def verdict_of(**optimizers):
    names = {n.replace("_", " ").replace("x", "."): n for n in optimizers}
    return Compared(
        {
            "steps": 3,
            "points": [1, 3],
            "seeds": [0, 1],
            "optimizers": {n: optimizers[k] for n, k in names.items()},
        }
    ).verdict()


def test_a_slow_winner_is_told():
    for low, high in ((0.1, 0.2), (0.2, 0.1)):
        verdict = verdict_of(
            slow=found(4.0, low, low), fast=found(1, high, high)
        )
        assert "step of slow takes 4.0 times as long as one of fast" in verdict
    verdict = verdict_of(a=found(1.0, 0.2, 0.2), b=found(1.2, 0.1, 0.1))
    assert "as long" not in verdict


def test_a_best_rate_at_the_edge_is_told():
    def verdict(*losses):
        names = ("AdamW_0x001", "AdamW_0x003", "AdamW_0x01")
        return verdict_of(
            **{n: found(1.0, x, x) for n, x in zip(names, losses, strict=True)}
        )

    assert "AdamW, 0.01, is the highest" in verdict(0.3, 0.2, 0.1)
    assert "AdamW, 0.001, is the lowest" in verdict(0.1, 0.2, 0.3)
    assert "that was tried" not in verdict(0.2, 0.1, 0.3)


def decaying():
    return keras.optimizers.AdamW(0.1, weight_decay=0.5)


def excluding():
    """Returns an optimizer whose configuration is that of `decaying`."""
    optimizer = decaying()
    optimizer.exclude_from_weight_decay(var_names=[""])
    return optimizer


def test_losses_are_those_of_the_one_path():
    makers = {"decaying": decaying, "excluding": excluding}
    result = compare(makers, seeds=[4], steps=4)
    task = keras_l2l.tasks.KerasModelTask(
        make_model,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        (X, Y),
    )
    for name, make in makers.items():
        curve = keras_l2l.evaluation.training_curve(make, task, 4, "train", 4)
        (run,) = result.results["optimizers"][name]["runs"]
        np.testing.assert_allclose(run["loss"], curve, rtol=1e-6)
    assert result.results["points"] == [1, 2, 3, 4]
    assert "no other optimizer" in compare({"one": decaying}, 2).verdict()


def test_defaults_are_there():
    result = compare({}, steps=4, seeds=[0], defaults={})
    assert set(result.names) == set(NO_DEFAULTS)
    learned = [
        name
        for name, found in result.results["optimizers"].items()
        if found["learned"]
    ]
    assert learned == ["LearnedOptimizer"]
    # The figure has one AdamW, the best of the four.
    assert len(result.plot().axes[0].lines) == 6


def test_it_goes_on_where_it_stopped(tmp_path, capsys):
    folder, make = tmp_path / "compared", sgd(0.1)
    first = compare(
        {"a": make}, seeds=[0, 1], output_dir=folder, steps=4, verbose=1
    )
    assert "8/8" in capsys.readouterr().out
    assert len(list(folder.glob("a-*.json"))) == 2
    again = compare({"a": make}, seeds=[0, 1], output_dir=folder, steps=4)
    assert again.results == first.results
    more = compare({"a": make}, seeds=[0, 2], output_dir=folder, steps=4)
    runs = more.results["optimizers"]["a"]["runs"]
    assert runs[0] == first.results["optimizers"]["a"]["runs"][0]
    assert len(list(folder.glob("a-*.json"))) == 3
    with pytest.raises(ValueError, match="another value of steps than"):
        compare({"a": make}, output_dir=folder, steps=5)
    with pytest.raises(ValueError, match="another for 'a'"):
        compare({"a": sgd(0.2)}, seeds=[0], output_dir=folder, steps=4)
    (folder / "a-0.json").write_text("{}")
    with pytest.raises(ValueError, match="a-0.json. Delete the file"):
        compare({"a": make}, seeds=[0], output_dir=folder, steps=4)


def test_what_has_diverged_is_read_again(tmp_path):
    def run():
        return compare(
            {"sane": sgd(0.1), "mad": sgd(1e38)},
            seeds=[0],
            metrics=[
                keras.metrics.SparseCategoricalCrossentropy(
                    "entropy", from_logits=True
                )
            ],
            output_dir=tmp_path / "compared",
        )

    first, again = run(), run()
    assert first.best() == ["sane", "mad"]
    assert "diverges" in first.table()
    assert "mad has diverged; one seed has no interval" in again.verdict()
    first.plot()
    assert "null" in (tmp_path / "compared/mad-0.json").read_text()
    assert again.table() == first.table()
    first.save(tmp_path / "result.json")
    assert type(first).load(tmp_path / "result.json").table() == first.table()


def test_names_that_look_alike_are_different_runs(tmp_path):
    optimizers = {"SGD 0.1": sgd(0.1), "SGD_0.1": sgd(0.2), "SGD/0.1": sgd(0.3)}
    first, again = (
        compare(optimizers, seeds=[0], steps=4, output_dir=tmp_path)
        for _ in range(2)
    )
    assert again.results == first.results
    losses = [r["runs"][0]["loss"][-1] for r in runs_of(first)]
    assert len(set(losses)) == 3


def runs_of(result):
    return result.results["optimizers"].values()


def test_metrics_are_tried_before_a_folder_is_made(tmp_path):
    for metric in ("nope", keras.metrics.F1Score()):
        with pytest.raises(ValueError, match="must accept|must be a number"):
            compare(
                {"a": sgd(0.1)}, metrics=[metric], output_dir=tmp_path / "new"
            )
    assert not (tmp_path / "new").exists()


def test_validation_data_of_ones_own():
    given = compare({"a": sgd(0.1)}, validation_data=(X[:7], Y[:7]), steps=2)
    examples = given.results["task_config"]["examples"]
    assert examples["train"] == 60 and examples["meta_valid"] == 7


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 1}, "`steps` must be at least 2"),
        ({"seeds": 3}, r"Pass range\(3\)"),
        ({"seeds": []}, "at least one"),
        ({"metrics": [[FINAL_LOSS]]}, "another name"),
        ({"seeds": [0.5]}, "must be ints"),
        ({"seeds": [1, 1]}, "must differ"),
        ({"optimizers": {3: keras.optimizers.SGD}}, "must be strings"),
        ({"optimizers": {}}, "left to compare"),
        ({"optimizers": {"AdamW 1e-2": None}}, "They are .*AdamW 0.01"),
        ({"metrics": [FINAL_LOSS]}, "another name"),
        ({"optimizers": {"a": 3}}, r"`optimizers\['a'\]` must be a function"),
        ({"metrics": "accuracy"}, r"Pass \['accuracy'\]"),
        ({"validation_data": 0.2}, "`validation_data` must be examples"),
        ({"optimizers": {"a": lambda: 3}}, "keras.optimizers.Optimizer"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"optimizers": {"a": sgd(0.1)}, **arguments})


def test_x_and_y_are_one_argument():
    with pytest.raises(ValueError, match=r"data=\(x, y\)"):
        keras_l2l.compare(make_model, "mse", X, Y)
