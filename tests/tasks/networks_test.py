"""Networks of which some are kept for tests alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2l.tasks import networks
from keras_l2l.tasks.networks import Network
from keras_l2l.tasks.networks import NetworkTask


def test_no_architecture_is_of_two_splits():
    drawn = {
        split: {
            network.architecture
            for kind in networks.KINDS
            for seed in range(5)
            for network in networks.draw(kind, 1, split, seed)
        }
        for split in ("train", "meta_valid", "test")
    }
    tested = {n.architecture for n in networks.TEST_NETWORKS.values()}
    assert len(networks.TEST_NETWORKS) == len(tested) + 2  # Of two data sets.
    assert all(
        networks.split_of(n) == "test" for n in networks.TEST_NETWORKS.values()
    )
    drawn["test"] |= tested
    for split, architectures in drawn.items():
        assert len(architectures) > 5
        for other in set(drawn) - {split}:
            assert architectures.isdisjoint(drawn[other])


def test_split_does_not_depend_on_data():
    network = networks.draw("mlp", 1, "meta_valid", 0)[0]
    other = network._replace(dataset="mnist", batch_size=7, init_scale=9.0)
    assert networks.split_of(other) == "meta_valid"


def test_draws_are_repeatable():
    first = networks.draw("mlp", 4, "train", 3)
    assert first == networks.draw("mlp", 4, "train", 3)
    assert first != networks.draw("mlp", 4, "train", 4)
    assert len({n.architecture for n in first}) == 4


@pytest.mark.parametrize(
    "network, layers",
    [
        (Network("mlp", 5, 2, "tanh"), [(64, 5), (5,), (5, 5), (5,)]),
        (Network("mlp", 5, 1, pooling=2), [(16, 5), (5,)]),
        (
            Network("conv_net", 3, 2),
            [(3, 3, 1, 3), (3,), (3, 3, 3, 6), (6,)],
        ),
    ],
    ids=["mlp", "pooled", "conv_net"],
)
def test_architecture_is_what_it_says(network, layers):
    task = NetworkTask(network)
    shapes = [tuple(v.shape) for v in task.variables()]
    assert shapes[:-2] == layers
    assert shapes[-1] == (10,)
    kernel = np.asarray(task.variables()[0])
    receptive = np.prod(kernel.shape[:-2])
    limit = np.sqrt(6 / (receptive * sum(kernel.shape[-2:])))
    assert 0.5 * limit < np.abs(kernel).max() <= limit
    larger = NetworkTask(network._replace(init_scale=3.0)).variables()[0]
    np.testing.assert_allclose(larger, 3 * kernel, atol=1e-6)


def test_transformer_predicts_the_next_character_from_those_before():
    task = NetworkTask(Network("transformer", 8, 1, dataset="characters"))
    model = task._new_model(seed=0)
    batch = task.batches("train", 0)(tf.constant(0, tf.int64))
    characters = batch[0][:2].numpy()
    outputs = model(characters)
    assert outputs.shape == (2, 32, 128)
    changed = characters.copy()
    changed[:, 20] = (changed[:, 20] + 1) % 128
    difference = np.abs(model(changed) - outputs).max(axis=(0, 2))
    assert difference[:20].max() == 0
    assert difference[20:].min() > 0
    loss = task.loss(task.init_params(0), batch)
    assert float(loss) == pytest.approx(np.log(128), rel=0.1)


def test_accuracy_is_reported():
    task = NetworkTask(Network("mlp", 4, 1))
    found = task.metrics(task.init_params(0), [], "test")
    assert set(found) == {"loss", "accuracy"}
    assert task.name == "l2l_digits_mlp_4_1_relu"
    assert task.get_config()["network"]["units"] == 4


@pytest.mark.parametrize(
    "network, message",
    [
        (Network("rnn", 4, 1), "`kind` must be one of mlp, conv_net"),
        (Network("mlp", 0, 1), "`units`"),
        (Network("mlp", 4, 0), "`depth`"),
        (Network("mlp", 4, 1, init_scale=0.0), "`init_scale`"),
        (Network("mlp", 4, 1, dataset="characters"), "A transformer must"),
        (Network("transformer", 4, 1), "A transformer must"),
    ],
    ids=["kind", "units", "depth", "init_scale", "text", "images"],
)
def test_wrong_networks(network, message):
    with pytest.raises(ValueError, match=message):
        NetworkTask(network)


def test_too_many_networks():
    with pytest.raises(ValueError, match="`number`"):
        networks.draw("transformer", 1000, "train", 0)


def test_training_improves_a_network():
    # Of each kind, a few steps of Adam: the smoke test of their gradients.
    from keras_l2l import evaluation

    for network in (
        Network("conv_net", 4, 1),
        Network("transformer", 8, 1, dataset="characters", batch_size=4),
    ):
        curve = evaluation.training_curve(
            lambda: keras.optimizers.Adam(0.02),
            NetworkTask(network),
            40,
            "train",
            0,
        )
        assert curve[-5:].mean() < 0.8 * curve[0]
