"""Meta-steps and runs that go wrong."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import Uphill
from conftest import leaves

import keras_l2l
from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import replay
from keras_l2l.meta_training import watch
from keras_l2l.meta_training.checkpoints import CheckpointError
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import files


class Poisoned(tasks.Quadratics):
    """Of some seeds, the loss is NaN from one inner step on."""

    def __init__(self, seeds, inner_step):
        super().__init__(3)
        self._seeds = [split_seed("train", seed) for seed in seeds]
        self._inner_step = inner_step

    def sample(self, seed):
        task = super().sample(seed)
        is_bad = tf.reduce_any(tf.equal(tf.cast(seed, tf.int64), self._seeds))
        loss = task.loss
        task.batches = lambda split, seed: (
            lambda step: tf.where(
                is_bad & (step >= self._inner_step), np.nan, 0.0
            )
        )
        task.loss = lambda params, batch: loss(params, ()) + batch
        return task


def meta_train(task, folder, **arguments):
    return keras_l2l.meta_train(
        rules.Momentum(),
        task,
        folder,
        **{
            "horizon": 6,
            "estimator": estimators.TruncatedBackprop(unroll_length=2),
            "meta_batch_size": 2,
            "meta_steps": 9,
            "validation": meta_training.Validation(interval=3, episodes=2),
            "verbose": 0,
            **arguments,
        },
    )


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.TruncatedBackprop(unroll_length=2),
        pytest.param(
            estimators.Imitation(unroll_length=2, teacher=rules.Adam(0.1)),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda estimator: estimator.name,
)
def test_bad_meta_step_is_skipped_and_can_be_replayed(tmp_path, estimator):
    # The second meta-step of the second group of episodes, 2 and 3.
    task = Poisoned([3], inner_step=3)
    with pytest.warns(UserWarning, match="Meta-step 4 was skipped"):
        result = meta_train(task, tmp_path, estimator=estimator)
    assert result.history["skipped"] == [{"meta_step": 4, "seeds": [2, 3]}]
    losses = result.history["meta_loss"]
    assert [k for k, x in enumerate(losses) if not np.isfinite(x)] == [4]
    assert all(np.isfinite(x).all() for x in leaves(result.meta_params))
    # Nothing about it is in what was learned: the episodes after are fresh.
    clean = meta_train(
        tasks.Quadratics(3), tmp_path / "clean", estimator=estimator
    )
    assert losses[:4] == clean.history["meta_loss"][:4]
    assert losses[5] != clean.history["meta_loss"][5]

    found = replay.replay(rules.Momentum(), task, tmp_path, 4)
    assert not np.isfinite(found["meta_loss"])
    good, bad = found["losses"][2], found["losses"][3]
    assert np.isfinite(good).all()
    assert not np.isfinite(bad).all()
    with pytest.raises(CheckpointError, match=r"step 5 .*\[4\]"):
        replay.replay(rules.Momentum(), task, tmp_path, 5)
    with pytest.raises(ValueError, match="rule"):
        replay.replay(rules.SGD(), task, tmp_path, 4)


def test_skipping_survives_resuming(tmp_path):
    task = Poisoned([3], inner_step=3)
    with pytest.warns(UserWarning, match="skipped"):
        whole = meta_train(task, tmp_path / "whole")
    for path in (tmp_path / "whole" / "checkpoints").iterdir():
        if not path.name.startswith("00000006"):
            path.unlink()
    resumed = meta_train(task, tmp_path / "whole", resume=True)
    np.testing.assert_equal(
        resumed.history["meta_loss"], whole.history["meta_loss"]
    )
    assert resumed.history["skipped"] == whole.history["skipped"]
    for a, b in zip(
        leaves(resumed.meta_params), leaves(whole.meta_params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_too_many_in_a_row_stop_the_run(tmp_path):
    task = Poisoned(range(10, 1000), inner_step=0)
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(watch.MetaTrainingError, match="smaller meta-learning"),
    ):
        meta_train(task, tmp_path, meta_steps=100)
    history = files.read_json(tmp_path / "history.json")
    assert len(history["skipped"]) >= watch.SKIPPED
    assert len(history["meta_loss"]) < 100
    meta_params = presets.load_preset(tmp_path / "preset").meta_params
    assert all(np.isfinite(x).all() for x in leaves(meta_params))


def test_a_run_stopped_before_its_first_checkpoint_stops_again(tmp_path):
    for _ in range(2):
        with (
            pytest.warns(UserWarning, match="skipped"),
            pytest.raises(watch.MetaTrainingError, match="smaller meta-learn"),
        ):
            meta_train(
                Poisoned(range(1000), inner_step=0),
                tmp_path,
                meta_steps=100,
                validation=meta_training.Validation(interval=50, episodes=2),
                resume=True,
            )
        assert not (tmp_path / "checkpoints").exists()
        assert (tmp_path / "history.json").exists()


def test_divergence_stops_the_run_with_the_best_before(tmp_path):
    task = tasks.Quadratic(tf.eye(2), tf.zeros(2))
    with pytest.raises(watch.MetaTrainingError, match="has diverged"):
        keras_l2l.meta_train(
            Uphill(),
            task,
            tmp_path,
            horizon=6,
            estimator=estimators.TruncatedBackprop(unroll_length=6),
            validation=meta_training.Validation(interval=4, episodes=2),
            meta_steps=400,
            meta_optimizer=meta_training.MetaOptimizer(learning_rate=0.1),
            verbose=0,
        )
    history = files.read_json(tmp_path / "history.json")
    finals = [v["final_loss"] for v in history["validation"]]
    assert 8 < len(finals) < 100
    assert all(x > finals[0] for x in finals[-watch.WORSE :])
    meta_params = presets.load_preset(tmp_path / "preset").meta_params
    assert min(finals) == finals[0] and float(meta_params["shift"]) == 0


def history(finals, skipped=(), taken=100):
    return {
        "meta_loss": [0.0] * taken,
        "skipped": [{"meta_step": k, "seeds": [0]} for k in skipped],
        "validation": [{"final_loss": x} for x in finals],
    }


def test_a_run_that_recovers_goes_on():
    bad, nan = 1 + watch.WORSE, float("nan")
    watch.check(history([1.0]))
    watch.check(history([1.0] + [2.0] * (watch.WORSE - 1)))
    watch.check(history([1.0] + [2.0] * (watch.WORSE - 1) + [0.5] + [2.0] * 3))
    watch.check(history([nan] * bad))
    watch.check(history([1.0], skipped=range(80, 90)))
    watch.check(history([1.0], skipped=[*range(80, 90), *range(91, 100)]))
    for finals in ([1.0] + [2.0] * watch.WORSE, [1.0] + [nan] * watch.WORSE):
        with pytest.raises(watch.MetaTrainingError):
            watch.check(history(finals))
    with pytest.raises(watch.MetaTrainingError, match="--replay=90"):
        watch.check(history([1.0], skipped=range(90, 100)))
