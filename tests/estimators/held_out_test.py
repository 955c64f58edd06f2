"""Meta-losses on examples that the episode is not trained on."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task
from varied_data import make_task

from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l.estimators import unroll as unroll_lib


def expected(task, rule, meta_params, episode, unrolls, unroll_length=3):
    """Returns the held-out loss after each of some unrolls."""
    sampled, carry, found = task.sample(episode.seed), episode.carry, []
    for _ in range(unrolls):
        _, carry = unroll_lib.unroll(
            rule,
            sampled,
            meta_params,
            carry,
            sampled.batches("train", episode.seed),
            unroll_length,
        )
        batch = sampled.held_out_batch("train", episode.seed, carry.iteration)
        found.append(
            float(
                sampled.evaluation_loss(
                    carry.params, carry.non_trainable, batch
                )
            )
        )
    return np.array(found)


@pytest.mark.parametrize(
    "cls, loss_weights",
    [
        (estimators.EvolutionStrategies, "mean"),
        (estimators.PersistentES, "log"),
        (estimators.SingleES, "log"),
        (estimators.SingleES, "mean"),
    ],
)
def test_the_meta_loss_is_that_of_held_out_examples(cls, loss_weights):
    task, rule = make_task(), rules.Momentum(0.1)
    meta_params = rule.init_meta_params(0)
    estimator = cls(
        unroll_length=3,
        pairs=1,
        stddev=1e-7,
        loss_weights=loss_weights,
        held_out=True,
        last_weight=10.0,
    ).bind(rule, task, 30)
    # Shorter than the horizon: what is last is up to the episode.
    episode, found = estimator.init(0, 9), []
    start = estimator.episode_of(episode)
    losses = expected(task, rule, meta_params, start, 3)
    for unroll in range(3):
        _, meta_loss, episode = estimator.estimate(
            meta_params, episode, tf.constant(unroll)
        )
        found.append(float(meta_loss))
    if loss_weights == "log":
        losses = np.log(losses + 1e-3)
    np.testing.assert_allclose(found, losses * [1, 1, 10], rtol=1e-4)


def test_a_list_of_weights_is_refused():
    with pytest.raises(ValueError, match="`loss_weights` must be a name"):
        estimators.PersistentES(held_out=True, loss_weights=[1.0] * 20)


def test_a_task_that_holds_nothing_out_is_refused():
    estimator = estimators.PersistentES(held_out=True)
    with pytest.raises(ValueError, match=r"held_out=False.*Varied"):
        estimator.bind(rules.Momentum(), regression_task(), 20)
