"""Meta-gradients from a sample of the coordinates, against exact ones."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from conftest import float64_quadratic
from conftest import slow_but
from conftest import to_float64

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators import TruncatedBackprop

RULES = {
    "lstm": rules.CoordinatewiseLSTM((5, 4)),
    "lstm_raw": rules.CoordinatewiseLSTM((5,), None, output_scale=1.0),
    "momentum": rules.Momentum(0.05, 0.8),
    "adam": rules.Adam(0.1, 0.8, 0.9, 0.01),
    "partition": rules.Partition(
        [("param_0", rules.CoordinatewiseLSTM((5,)))], rules.SGD(0.05)
    ),
}


def flat(nest):
    return np.concatenate([np.ravel(t) for t in tf.nest.flatten(nest)])


class Estimates:
    """Estimates at one point, in the second unroll of an episode."""

    def __init__(self, rule, loss_weights="sum"):
        self.task = float64_quadratic(n=6)
        self.rule = rule.for_variables(self.task.variables())
        self.meta_params = to_float64(self.rule.init_meta_params(0))
        self.loss_weights = loss_weights
        exact = self.estimator(None)
        _, _, self.episode = exact.estimate(
            self.meta_params, to_float64(exact.init(0)), 0
        )

    def estimator(self, sampled_coordinates):
        return TruncatedBackprop(
            unroll_length=5,
            loss_weights=self.loss_weights,
            sampled_coordinates=sampled_coordinates,
        ).bind(self.rule, self.task, 10)

    def __call__(self, sampled_coordinates, seeds=(0,)):
        estimator = self.estimator(sampled_coordinates)
        return [
            estimator.estimate(
                self.meta_params, self.episode, tf.constant(seed)
            )
            for seed in seeds
        ]


@pytest.mark.parametrize(
    "name, loss_weights",
    [
        ("lstm", "sum"),
        *[
            pytest.param(name, "sum", marks=pytest.mark.slow)
            for name in [*RULES][1:]
        ],
        ("momentum", "last"),
        ("momentum", [*range(10)]),
    ],
    ids=str,
)
def test_sample_of_all_is_exact(name, loss_weights):
    estimates = Estimates(RULES[name], loss_weights)
    (exact,), (sampled,) = estimates(None), estimates(6)
    for a, b in zip(
        tf.nest.flatten(sampled), tf.nest.flatten(exact), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert np.abs(flat(exact[0])).max() > 0


@pytest.mark.parametrize("name", slow_but(["momentum", "partition"], RULES))
def test_samples_are_without_bias(name):
    estimates = Estimates(RULES[name])
    ((exact, meta_loss, _),) = estimates(None)
    sizes = [p.shape[0] for p in estimates.episode.carry.params]
    found = collections.Counter()
    for gradient, loss, _ in estimates(1, seeds=range(40 * max(sizes))):
        # Of the inner steps, nothing is sampled.
        assert float(loss) == pytest.approx(float(meta_loss), rel=1e-12)
        found[tuple(np.round(flat(gradient), 12))] += 1
    # One coordinate of each tensor: every pair comes up, as often as others.
    assert len(found) == np.prod(sizes)
    mean = 40 * max(sizes) / len(found)
    assert max(abs(n - mean) for n in found.values()) < 5 * np.sqrt(mean)
    expected = flat(exact)
    np.testing.assert_allclose(
        np.mean([*found], axis=0), expected, atol=1e-11, rtol=1e-9
    )
    # And they do differ from it.
    assert all(np.abs(np.array(g) - expected).max() > 1e-9 for g in found)


@pytest.mark.parametrize(
    "rule, second_derivatives, message",
    [
        (rules.CoordinatewiseLSTM(), True, "`second_derivatives` must be Fal"),
        (rules.GlobalAveragingLSTM(), False, "GlobalAveragingLSTM.* Leave out"),
        (rules.NTMBFGS(), False, "treat each by itself.*NTMBFGS"),
        (
            rules.Partition([("0", rules.KernelLSTM(()))], rules.SGD()),
            False,
            "treat each by itself.*KernelLSTM",
        ),
    ],
    ids=["second_derivatives", "averaging", "ntm_bfgs", "partition"],
)
def test_what_cannot_be_sampled_is_refused(rule, second_derivatives, message):
    with pytest.raises(ValueError, match=message):
        TruncatedBackprop(
            unroll_length=2,
            second_derivatives=second_derivatives,
            sampled_coordinates=2,
        ).bind(rule, tasks.Quadratics(3), 4)
