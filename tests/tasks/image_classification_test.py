import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import tasks


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tasks.ImageClassification(
        layer_sizes=(5, 4), data_dir=tmp_path_factory.mktemp("data")
    )


def test_parameters_are_iid_gaussian(task):
    params = task.init_params(0)
    shapes = [(64, 5), (5,), (5, 4), (4,), (4, 10), (10,)]
    assert [tuple(p.shape) for p in params] == shapes
    values = np.concatenate(
        [np.ravel(p) for seed in range(50) for p in task.init_params(seed)]
    )
    assert abs(values.std() - 0.1) < 0.002
    assert abs(values.mean()) < 0.002
    # Every tensor has random numbers of its own (floats may meet by chance).
    assert len(np.unique(values)) > 0.999 * len(values)


def test_loss_of_zero_parameters_is_log_10(task):
    zeros = [tf.zeros_like(p) for p in task.init_params(0)]
    batch = task.batches("train", 0)(tf.constant(0))
    assert float(task.loss(zeros, batch)) == pytest.approx(np.log(10))


def test_loss_equals_an_independent_computation(task):
    params = [p.numpy() * 5 for p in task.init_params(1)]
    images, labels = task.batches("test", 0)(tf.constant(3))
    x = images.numpy().reshape(128, 64) / 255
    for layer in range(3):
        if layer:
            x = 1 / (1 + np.exp(-x))
        x = x @ params[2 * layer] + params[2 * layer + 1]
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    expected = -np.mean(log_p[np.arange(128), labels])
    loss = task.loss([tf.constant(p) for p in params], (images, labels))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_metrics_are_of_all_images_of_a_split(task):
    # Larger than at the start: predictions must differ.
    params = [p.numpy() * 20 for p in task.init_params(1)]
    images, labels = (part.numpy() for part in task._data["meta_valid"])
    loss = task.loss(
        [tf.constant(p) for p in params], (tf.constant(images), labels)
    )
    x = images.reshape(300, 64) / 255
    for layer in range(3):
        if layer:
            x = 1 / (1 + np.exp(-x))
        x = x @ params[2 * layer] + params[2 * layer + 1]
    found = task.metrics(params, [], "meta_valid")
    assert found["accuracy"] == pytest.approx(np.mean(x.argmax(1) == labels))
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found != task.metrics(params, [], "test")


def test_splits_draw_from_disjoint_images(task):
    images = [
        {
            bytes(image)
            for step in range(5)
            for image in task.batches(split, 0)(tf.constant(step))[0].numpy()
        }
        for split in tasks.SPLITS
    ]
    assert all(len(i) > 50 for i in images)
    assert sum(map(len, images)) == len(set.union(*images))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layer_sizes": (20, 0)}, "`layer_sizes` must be an int"),
        ({"batch_size": 1.5}, "`batch_size` must be an int"),
        ({"activation": "nope"}, "nope"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.ImageClassification(**arguments)
