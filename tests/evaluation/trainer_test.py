"""Optimizers that are traced once, against those traced anew."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import evaluation
from keras_l2l import tasks
from keras_l2l.evaluation.trainer import Trainer
from keras_l2l.tasks.base import split_seed

QUADRATICS = tasks.Quadratics(4)
RATES = (0.01, 0.1)


class _Doubled(keras.optimizers.SGD):
    """Tells nothing of its factor, as users' optimizers may not."""

    factor = 1.0

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.factor * gradient, variable, learning_rate)


def _doubled(rate):
    optimizer = _Doubled(0.01)
    optimizer.factor = 100 * rate
    return optimizer


def _clipped(rate):
    return keras.optimizers.SGD(0.05, clipnorm=10 * rate)


def _scheduled(rate):
    return keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(rate, 3, 0.5)
    )


@pytest.mark.parametrize(
    "make_optimizer, traces",
    [
        *[(make, 1) for make in evaluation.BASELINES.values()],
        (_clipped, 2),
        (_scheduled, 2),
        (_doubled, 3),
    ],
    ids=[*evaluation.BASELINES, "clipped", "scheduled", "user's"],
)
def test_traced_once_is_traced_anew(make_optimizer, traces, monkeypatch):
    calls = []
    apply = keras.optimizers.Optimizer.apply
    monkeypatch.setattr(
        keras.optimizers.Optimizer,
        "apply",
        lambda self, *args: calls.append(self) or apply(self, *args),
    )
    trainer = Trainer(QUADRATICS, 6)
    makes = [functools.partial(make_optimizer, rate) for rate in RATES]
    # The first again: nothing is left over from the others.
    received = [trainer.curves(m, "test", range(2)) for m in [*makes, makes[0]]]
    assert len(set(map(id, calls))) == traces
    for make, curves in zip([*makes, makes[0]], received, strict=True):
        expected = evaluation.training_curves(
            make, QUADRATICS, 6, "test", [0, 1]
        )
        np.testing.assert_array_equal(curves, expected)
    assert len({curves.tobytes() for curves in received}) == 2


def test_what_a_configuration_does_not_tell():
    def decaying(rate):
        return keras.optimizers.AdamW(rate, weight_decay=0.5)

    def excluding(rate):
        optimizer = decaying(rate)
        optimizer.exclude_from_weight_decay(var_names=[""])
        return optimizer

    trainer = Trainer(QUADRATICS, 6)
    for make in (decaying, excluding):
        make = functools.partial(make, 0.1)
        expected = evaluation.training_curves(make, QUADRATICS, 6, "test", [0])
        received = trainer.curves(make, "test", [0])
        np.testing.assert_array_equal(received, expected)


def test_splits_have_batches_of_their_own():
    trainer = Trainer(QUADRATICS, 3)
    make = functools.partial(keras.optimizers.SGD, 0.01)
    test, valid = (trainer.curves(make, s, [0]) for s in ("test", "meta_valid"))
    assert np.abs(test - valid).max() > 0


def test_metrics_at_the_end_are_of_data_not_trained_on():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    task = tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.BatchNormalization(momentum=0.5),
                keras.layers.Dense(1),
            ]
        ),
        "mse",
        (x, x.sum(axis=1, keepdims=True)),
        metrics=["mae"],
    )
    trainer = Trainer(task, 5)
    make = functools.partial(keras.optimizers.SGD, 0.05)
    for split, other in (("train", "test"), ("test", "meta_valid")):
        curves, metrics = trainer.results(make, split, [3, 4])
        np.testing.assert_array_equal(
            curves, trainer.curves(make, split, [3, 4])
        )
        for one, found in zip(
            trainer.train(make, split, [3, 4]), metrics, strict=True
        ):
            expected = task.metrics(one.params, one.non_trainable, other)
            assert found == {f"{other}_{k}": v for k, v in expected.items()}
        assert metrics[0] != metrics[1]


def test_parameters_at_the_end():
    trained = Trainer(QUADRATICS, 5).train(
        functools.partial(keras.optimizers.SGD, 0.01), "test", [3]
    )
    ((losses, params, _),) = trained
    seed = tf.constant(split_seed("test", 3), tf.int64)
    task = QUADRATICS.sample(seed)
    batch = task.batches("test", seed)(5)
    assert losses[-1] == pytest.approx(float(task.loss(params, batch)))


def test_stops_on_the_way_change_nothing():
    trainer = Trainer(QUADRATICS, 6)
    make = functools.partial(keras.optimizers.Adam, 0.1)
    points = [1, 4, 6]
    whole = list(trainer.train(make, "test", [3, 4]))
    for expected, segments in zip(
        whole, trainer.follow(make, "test", [3, 4], points), strict=True
    ):
        seconds, trained = zip(*segments, strict=True)
        assert min(seconds) > 0 and [len(t.losses) for t in trained] == [
            *(1, 3, 2)
        ]
        np.testing.assert_array_equal(
            np.concatenate([t.losses for t in trained]), expected.losses
        )
        np.testing.assert_array_equal(trained[-1].params, expected.params)
