"""Rules are told the length of an episode, or not."""

import pytest
import tensorflow as tf
from conftest import regression_task
from conftest import uncompiled

from keras_l2l import estimators
from keras_l2l import rules


@pytest.mark.parametrize(
    "make",
    [
        estimators.TruncatedBackprop,
        lambda **options: estimators.SingleES(pairs=1, stddev=1e-6, **options),
    ],
    ids=["backprop", "single_es"],
)
def test_an_estimator_tells_the_rule_the_length(make):
    rule = uncompiled(rules.MomentumMixture())
    task, losses = regression_task(), {}
    for epoch in (9.0, None):
        task.steps_per_epoch = lambda split, epoch=epoch: epoch
        estimator = make(unroll_length=3).bind(rule, task, 60)
        for told in ((None, True), (60, True), (6, True), (6, False)):
            _, loss, _ = estimator.estimate(
                rule.init_meta_params(0),
                estimator.init(0, *told),
                tf.constant(0),
            )
            losses[*told, epoch] = float(loss)
    # Without a length given, it is the horizon.
    assert losses[None, True, 9.0] == losses[60, True, 9.0]
    # Without a length, epochs do not count.
    assert losses[6, False, None] == losses[6, False, 9.0]
    assert len({*losses.values()}) == 5
