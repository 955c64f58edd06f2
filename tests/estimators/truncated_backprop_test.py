"""Meta-gradients against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import regression_task
from recurrence import Recurrence
from recurrence import Square

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators import TruncatedBackprop


def total_gradient(unroll_length, loss_weights="sum"):
    rule = Recurrence()
    estimator = TruncatedBackprop(
        unroll_length=unroll_length, loss_weights=loss_weights
    ).bind(rule, Square(), 12)
    meta_params = rule.init_meta_params(0)
    episode = estimator.init(0)
    total = 0.0
    for _ in range(12 // unroll_length):
        gradient, _, episode = estimator.estimate(meta_params, episode, 0)
        total += float(gradient["shift"])
    return total


def test_closed_form():
    # s_t = 0.9^t + 3 (1 - 0.9^t), d s_t / d shift = 10 (1 - 0.9^t).
    power = 0.9 ** np.arange(1, 13)
    exact = np.sum(2 * (power + 3 * (1 - power)) * 10 * (1 - power))
    assert round(exact, 1) == 231.1
    assert total_gradient(unroll_length=12) == pytest.approx(exact, rel=1e-12)


def test_truncation_has_its_known_bias():
    # Within an unroll of 3, the derivative starts again from 0.
    power = 0.9 ** np.arange(1, 13)
    inner = 10 * (1 - 0.9 ** np.tile([1, 2, 3], 4))
    truncated = np.sum(2 * (power + 3 * (1 - power)) * inner)
    assert round(truncated, 1) == 87.9
    assert total_gradient(unroll_length=3) == pytest.approx(
        truncated, rel=1e-12
    )


@pytest.mark.parametrize(
    "loss_weights, numbers",
    [
        ("mean", [1 / 3] * 12),
        ("log", 1 / (3 * (3 - 2 * 0.9 ** np.arange(1, 13)) ** 2 + 3e-3)),
        ("last", [0, 0, 1] * 4),
        ([*range(12)], range(12)),
        ([0.5, -1.0] * 6, [0.5, -1.0] * 6),
    ],
    ids=str,
)
def test_closed_form_of_weighted_losses(loss_weights, numbers):
    power = 0.9 ** np.arange(1, 13)
    inner = 10 * (1 - 0.9 ** np.tile([1, 2, 3], 4))
    expected = np.sum(2 * np.array(numbers) * (power + 3 * (1 - power)) * inner)
    assert total_gradient(3, loss_weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "loss_weights", ["median", [1.0] * 11, [1.0] * 11 + [np.nan], 1.0, None]
)
def test_wrong_weights(loss_weights):
    with pytest.raises(ValueError, match="`loss_weights` must be sum, mean"):
        total_gradient(3, loss_weights)


class _Linear(rules.CoordinatewiseRule):
    """update = w gradient + b, without state."""

    def init_meta_params(self, seed):
        return {"w": tf.zeros([]), "b": tf.zeros([])}

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        return meta_params["w"] * gradient + meta_params["b"], state


def test_value_of_the_papers_code():
    estimator = TruncatedBackprop(unroll_length=5).bind(_Linear(), Square(), 10)
    meta_params, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    episode = estimator.init(0)
    for t in (1, 2):
        gradient, _, episode = estimator.estimate(
            {
                "w": tf.constant(meta_params[0]),
                "b": tf.constant(meta_params[1]),
            },
            episode,
            0,
        )
        # Adam with learning rate 0.01, in float64.
        g = np.array([gradient["w"], gradient["b"]])
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        meta_params = meta_params - 0.01 * m_hat / (np.sqrt(v_hat) + 1e-8)
    x = episode.carry.params[0].numpy().item()
    assert x == pytest.approx(0.8559, abs=5e-5)
    # The cost is the last loss, here of the code's float32 arithmetic.
    assert x**2 == pytest.approx(0.7325327, abs=1e-7)


@pytest.mark.parametrize(
    "second_derivatives, golden",
    [(False, (20.5038, 11.9325)), (True, (16.8729, 9.9553))],
)
def test_value_of_both_derivatives_by_hand(second_derivatives, golden):
    w, b = -0.1, 0.03
    estimator = TruncatedBackprop(
        unroll_length=4, second_derivatives=second_derivatives
    ).bind(_Linear(), Square(), 4)
    gradient, _, _ = estimator.estimate(
        {"w": tf.constant(w, tf.float64), "b": tf.constant(b, tf.float64)},
        estimator.init(0),
        0,
    )
    # x <- x + w g + b, g = 2 x: its dependence on x counts, or does not.
    x, by_w, by_b, expected = 1.0, 0.0, 0.0, np.zeros(2)
    through = 1 + 2 * w if second_derivatives else 1
    for _ in range(4):
        by_w, by_b = through * by_w + 2 * x, through * by_b + 1
        x += w * 2 * x + b
        expected += 2 * x * np.array([by_w, by_b])
    assert tuple(np.round(expected, 4)) == golden
    received = [float(gradient["w"]), float(gradient["b"])]
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_episode_goes_on_and_traces_once(small_lstm):
    estimator = TruncatedBackprop(unroll_length=5).bind(
        small_lstm, tasks.Quadratics(3), 20
    )
    meta_params = small_lstm.init_meta_params(0)
    for seed in (0, 1):
        episode = estimator.init(seed)
        for _ in range(4):
            _, _, episode = estimator.estimate(
                meta_params, episode, tf.constant(0)
            )
        assert int(episode.carry.iteration) == 20
    assert estimator._compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "horizon, unroll_length, message",
    [
        (100, 30, "must divide `horizon`.*nearest horizon is 90"),
        (5, 20, "must divide `horizon`.*nearest horizon is 20"),
        (0, 1, "`horizon` must be an int from 1 to"),
        (100, 0, "`unroll_length` must be an int from 1 to"),
        (100.0, 20, "`horizon` must be an int"),
    ],
)
def test_bad_lengths(small_lstm, horizon, unroll_length, message):
    with pytest.raises(ValueError, match=message):
        TruncatedBackprop(unroll_length=unroll_length).bind(
            small_lstm, tasks.Quadratics(), horizon
        )


def test_wrong_types(small_lstm):
    with pytest.raises(ValueError, match="`rule` must be .* Received: rule='"):
        TruncatedBackprop(unroll_length=2).bind("lstm", tasks.Quadratics(), 4)
    with pytest.raises(ValueError, match="`task` must be .*KerasModelTask"):
        TruncatedBackprop(unroll_length=2).bind(
            small_lstm, keras.Sequential(), 4
        )


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        lambda: keras.layers.GroupNormalization(2),
    ],
    ids=["batch", "layer", "group"],
)
def test_second_derivatives_through_moments_are_refused(small_lstm, layer):
    task = regression_task(
        make_model=lambda: keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4),
                layer(),
                keras.layers.Dense(1),
            ]
        )
    )
    with pytest.raises(ValueError, match="tf.nn.moments.*second_derivatives="):
        TruncatedBackprop(unroll_length=2, second_derivatives=True).bind(
            small_lstm, task, 4
        )
    TruncatedBackprop(unroll_length=2).bind(small_lstm, task, 4)


def test_second_derivatives_are_allowed_where_they_are_exact(small_lstm):
    for task in (
        tasks.Quadratics(3),
        regression_task(),
        regression_task(
            make_model=lambda: keras.Sequential(
                [
                    keras.Input((3,)),
                    keras.layers.Dense(4),
                    keras.layers.RMSNormalization(),
                    keras.layers.Dense(1),
                ]
            )
        ),
    ):
        TruncatedBackprop(unroll_length=2, second_derivatives=True).bind(
            small_lstm, task, 4
        )
