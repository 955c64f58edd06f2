"""Rules are told the length of an episode, or not."""

import pytest
import tensorflow as tf
from conftest import regression_task

from keras_l2l import estimators
from keras_l2l import rules


class _ByLength(rules.UpdateRule):
    """Its steps depend on all that a rule is told of an episode's length."""

    def init_meta_params(self, seed):
        return {"rate": tf.constant(0.001)}

    def init_state(self, shapes):
        return {}

    def step(self, meta_params, inputs, state):
        length, epoch = (
            tf.cast(0 if value is None else value, "float32")
            for value in (inputs.num_steps, inputs.steps_per_epoch)
        )
        epochs = tf.where(epoch > 0, length / epoch, 0.0)
        rate = meta_params["rate"] * (1 + length + epochs)
        return [-rate * gradient for gradient in inputs.gradients], state


@pytest.mark.parametrize(
    "make",
    [
        estimators.TruncatedBackprop,
        lambda **options: estimators.SingleES(pairs=1, stddev=1e-6, **options),
    ],
    ids=["backprop", "single_es"],
)
def test_an_estimator_tells_the_rule_the_length(make):
    rule = _ByLength()
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
