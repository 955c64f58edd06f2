"""What the names of rules and tasks say is what one gets."""

import keras
import pytest

from keras_l2l import rules
from keras_l2l import tasks
from train import registry


def test_lstm_kernel_has_an_lstm_for_each_filter():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(2, 3, name="conv_0"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, name="dense_0"),
        ]
    )
    rule = registry.RULES["lstm_kernel"]()
    rule = rule.for_variables(model.trainable_variables)
    (of_kernels, kernels), (_, others) = (
        (member, indices) for _, member, indices in rule.bound_members()
    )
    assert type(of_kernels) is rules.KernelLSTM
    assert of_kernels.kernel_shape == (3, 3)
    assert type(rule.default) is rules.CoordinatewiseLSTM
    # The kernel of the convolution alone, not its bias nor the dense layer.
    assert (kernels, others) == ([0], [1, 2, 3])


@pytest.mark.parametrize("network", ["conv", "small_conv"])
def test_held_out_labels_are_not_trained_on(network, monkeypatch):
    # Of the task, its arguments: no data set is built.
    monkeypatch.setattr(tasks, "ConvNetClassification", lambda *_, **kw: kw)
    data = registry.Data("cifar10", None, False, None)
    _, sub, five, two = (
        registry.TASKS[network + suffix](data).get("labels")
        for suffix in ("", "_sub", "_5", "_2")
    )
    assert [len({*labels}) for labels in (sub, five, two)] == [5, 5, 2]
    assert {*sub, *five, *two} <= {*range(10)}
    assert {*sub}.isdisjoint(five) and {*sub}.isdisjoint(two)
