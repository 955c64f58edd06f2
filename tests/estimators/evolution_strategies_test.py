"""Evolution strategies against closed forms, and their variance."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task
from conftest import slow_but
from recurrence import Recurrence
from recurrence import Square

from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import tasks

# Totals over an episode of 12 steps: of unrolls of 3 by themselves, and with
# what each does to the later ones.
TRUNCATED, EXACT = 87.9, 231.1


def totals(estimator, episodes):
    """Returns the sum of the meta-gradients of each of some episodes."""
    rule = estimator.rule
    meta_params = rule.init_meta_params(0)
    found = []
    for seed in range(episodes):
        episode, total = estimator.init(seed), 0.0
        for unroll in range(4):
            gradient, _, episode = estimator.estimate(
                meta_params, episode, tf.constant(unroll)
            )
            total += float(gradient["shift"])
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize(
    "cls, expected, other",
    [
        (estimators.EvolutionStrategies, TRUNCATED, EXACT),
        (estimators.PersistentES, EXACT, TRUNCATED),
        (estimators.SingleES, EXACT, TRUNCATED),
    ],
    ids=["truncated", "persistent", "single"],
)
def test_closed_form(cls, expected, other):
    # Of a quadratic, differences have no error of their own.
    estimator = cls(unroll_length=3, pairs=500)
    found = totals(estimator.bind(Recurrence(), Square(), 12), 40)
    error = found.std() / np.sqrt(len(found))
    # Known so well that it can't be taken for the other.
    assert 10 * error < EXACT - TRUNCATED
    assert abs(found.mean() - expected) < 4 * error
    assert abs(found.mean() - other) > 10 * error


@pytest.mark.parametrize(
    "cls",
    slow_but(
        [estimators.PersistentES],
        [estimators.EvolutionStrategies, estimators.PersistentES],
    ),
)
def test_first_unroll_is_that_of_backpropagation(cls):
    task = regression_task()
    rule = rules.RNNprop(units=(2,))
    meta_params = rule.init_meta_params(0)
    backprop = estimators.TruncatedBackprop(
        unroll_length=3, second_derivatives=True, loss_weights="log"
    ).bind(rule, task, 6)
    expected, expected_loss, _ = backprop.estimate(
        meta_params, backprop.init(0), tf.constant(0)
    )
    estimator = cls(
        unroll_length=3, loss_weights="log", pairs=2000, stddev=0.002
    ).bind(rule, task, 6)
    found, loss, _ = estimator.estimate(
        meta_params, estimator.init(0), tf.constant(0)
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)
    found, expected = (
        np.concatenate([np.ravel(t) for t in tf.nest.flatten(gradient)])
        for gradient in (found, expected)
    )
    # A sample of 2000 in 53 dimensions: an error of a sixth of the norm.
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 2 * np.sqrt(len(found) / 2000)
    assert np.sum(found * expected) / np.sum(expected**2) == pytest.approx(
        1, abs=0.1
    )


class _Step(rules.UpdateRule):
    """A step of 0.1 down if `threshold` is below 0.3: without derivatives."""

    def init_meta_params(self, seed):
        return {"threshold": tf.constant(0.3)}

    def init_state(self, shapes):
        return []

    def step(self, meta_params, inputs, state):
        down = tf.cast(meta_params["threshold"] < 0.3, tf.float32)
        return [-0.1 * down * p for p in inputs.params], state


def test_what_has_no_derivatives():
    task = tasks.Quadratic(tf.eye(3), tf.zeros(3))
    backprop = estimators.TruncatedBackprop(unroll_length=2).bind(
        _Step(), task, 2
    )
    meta_params = _Step().init_meta_params(0)
    gradient, _, _ = backprop.estimate(
        meta_params, backprop.init(0), tf.constant(0)
    )
    assert float(gradient["threshold"]) == 0
    estimator = estimators.PersistentES(unroll_length=2, pairs=50).bind(
        _Step(), task, 2
    )
    gradient, _, _ = estimator.estimate(
        meta_params, estimator.init(0), tf.constant(0)
    )
    # Of two half normal distributions: 1 / (sqrt(2 pi) stddev).
    before = task.loss(task.init_params(0), ())
    lower = (0.9**2 + 0.9**4 - 2) * float(before)
    expected = -lower / np.sqrt(2 * np.pi) / 0.01
    assert float(gradient["threshold"]) == pytest.approx(expected, rel=0.3)


def test_particles_go_on_from_where_they_were():
    rule, task = Recurrence(), Square()
    estimator = estimators.PersistentES(unroll_length=3, pairs=3).bind(
        rule, task, 12
    )
    meta_params = rule.init_meta_params(0)
    episode = estimator.init(0)
    for unroll in range(2):
        _, _, episode = estimator.estimate(
            meta_params, episode, tf.constant(unroll)
        )
    carries, total_noise = episode.carry
    assert int(carries.iteration) == 6
    assert carries.params[0].shape == (6, 1)
    assert total_noise["shift"].shape == (3,)
    # Antithetic: their mean is the unperturbed one.
    power = 0.9**6
    np.testing.assert_allclose(
        np.mean(carries.params[0]), power + 3 * (1 - power), rtol=1e-6
    )
    assert np.ptp(carries.params[0]) > 0
    first = estimator.episode_of(episode).carry
    np.testing.assert_array_equal(first.params[0], carries.params[0][0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pairs": 0}, "`pairs` must be"),
        ({"stddev": 0.0}, "`stddev` must be"),
        ({"loss_weights": "median"}, "`loss_weights` must be"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        estimators.PersistentES(**arguments)
