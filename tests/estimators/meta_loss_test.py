import math

import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators.meta_loss import MetaLoss
from keras_l2l.meta_training import Validation
from keras_l2l.meta_training import task_check


class Lowered(tasks.Quadratics):
    """Quadratics whose losses can be negative."""

    def sample(self, seed):
        task = super().sample(seed)
        loss = task.loss
        task.loss = lambda params, batch: loss(params, batch) - 1000.0
        return task


def test_losses_without_a_logarithm():
    meta_loss = MetaLoss("log", 4, 2)
    for losses in ([1.0, -0.5], [-0.001, 2.0], [-1.0, -np.inf]):
        assert meta_loss.of(tf.constant(losses), 0)[0] == -math.inf
    found, _ = meta_loss.of(tf.constant([0.0, -0.0005]), 0)
    assert float(found) == pytest.approx(math.log(0.0005 * 0.001) / 2, rel=1e-4)
    assert math.isnan(meta_loss.of(tf.constant([np.nan, -1.0]), 0)[0])


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.TruncatedBackprop,
        estimators.EvolutionStrategies,
        estimators.PersistentES,
        estimators.SingleES,
    ],
)
@pytest.mark.parametrize("validation_task", [None, tasks.Quadratics(3)])
def test_negative_losses_are_said_to_be_the_cause(
    tmp_path, validation_task, estimator
):
    with pytest.raises(ValueError, match='must not be "log" .*negative.*-'):
        keras_l2l.meta_train(
            rules.Momentum(),
            Lowered(3),
            tmp_path,
            horizon=4,
            meta_steps=2,
            estimator=estimator(unroll_length=2, loss_weights="log"),
            validation=Validation(task=validation_task, episodes=1),
            verbose=0,
        )


def test_inspection_says_so_too():
    report = task_check.inspect_task(
        rules.Momentum(),
        Lowered(3),
        horizon=4,
        estimator=estimators.TruncatedBackprop(
            unroll_length=2, loss_weights="log"
        ),
        validation=Validation(episodes=1),
    )
    assert "must not be negative" in " ".join(report["remarks"])
