import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import tasks


def test_loss_by_hand():
    task = tasks.Quadratic(
        tf.constant([[1.0, 2.0], [0.0, 3.0]]), tf.constant([1.0, -1.0])
    )
    # W [1, 1] - y = [3 - 1, 3 + 1]
    assert float(task.loss([tf.ones(2)], ())) == 2.0**2 + 4.0**2


def test_functions_and_starts_are_standard_gaussian():
    family = tasks.Quadratics()
    drawn = [family.sample(seed) for seed in range(200)]
    for values in (
        np.array([t.w for t in drawn]),
        np.array([t.y for t in drawn]),
        np.array([t.init_params(s)[0] for s, t in enumerate(drawn)]),
    ):
        assert values.shape[-1] == 10
        assert abs(values.mean()) < 0.05
        assert abs(values.std() - 1) < 0.05


def test_function_and_start_are_independent():
    task = tasks.Quadratics().sample(0)
    start = task.init_params(0)[0].numpy()
    for row in [task.y.numpy(), *task.w.numpy()]:
        assert np.abs(row - start).max() > 0.1


@pytest.mark.parametrize("dimension", [0, 2.0, "3"])
def test_bad_dimension(dimension):
    with pytest.raises(ValueError, match="`dimension` must be an int"):
        tasks.Quadratics(dimension)
