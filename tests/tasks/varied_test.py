import numpy as np
import pytest
import tensorflow as tf
from varied_data import CLASSES
from varied_data import make_task

from keras_l2l import tasks
from keras_l2l.tasks.base import split_seed


def seed_of(i, split="train"):
    return tf.constant(split_seed(split, i), tf.int64)


def reader(task, split="train"):
    """Returns a function from a seed to the numbers and labels of batches.

    It returns those of training, and those held out.
    """

    @tf.function(autograph=False)
    def read(seed):
        episode = task.sample(seed)
        batch = episode.batches(split, seed)
        steps = range(20)
        return [
            tuple(tf.concat(parts, 0) for parts in zip(*batches, strict=True))
            for batches in (
                [batch(tf.constant(t, tf.int64)) for t in steps],
                [
                    episode.held_out_batch(split, seed, tf.constant(t))
                    for t in steps[:8]
                ],
            )
        ]

    return lambda seed: [tuple(t.numpy() for t in b) for b in read(seed)]


def shifts(x, y):
    return (y - x[:, 0].astype(int)) % CLASSES


def test_examples_are_trained_on_or_held_out():
    read, numbers = reader(make_task()), []
    for i in range(30):
        (x, _), (held_out, _) = read(seed_of(i))
        assert not {*x[:, 0]} & {*held_out[:, 0]}
        numbers.append(len({*x[:, 0]}))
    # Of the 300 in this split.
    assert min(numbers) < 20
    assert 75 < max(numbers) <= 150


def test_what_an_epoch_is():
    family = make_task(streams=0.3)
    assert family.steps_per_epoch("train") is None
    assert family.task.steps_per_epoch("train") == 300 / 32
    told = []
    for i in range(60):
        seed = seed_of(i)
        steps = float(family.sample(seed).steps_per_epoch("train"))
        # Of the numbers of examples in the test above.
        _, number, _ = family.sample(seed)._trained_on("train")
        assert steps in (0, pytest.approx(float(number) / 32))
        told.append(steps > 0)
    assert 0.5 < np.mean(told) < 0.9


def test_labels_are_shifted_and_sometimes_noisy():
    read, found, shares = reader(make_task(noisy=0.5)), set(), []
    for i in range(40):
        (x, y), (held_out, of_held_out) = read(seed_of(i))
        (shift,) = {*shifts(held_out, of_held_out)}
        found.add(shift)
        shares.append(np.mean(shifts(x, y) != shift))
        # A label is the same whenever it is seen.
        assert len({*zip(x[:, 0], y, strict=True)}) == len({*x[:, 0]})
    assert len(found) == CLASSES
    noisy = np.array(shares) > 0
    assert 0.2 < noisy.mean() < 0.8
    # Up to 0.3, of as few as ten examples.
    assert 0.05 < np.mean(np.array(shares)[noisy]) < 0.25


def test_labels_that_are_no_classes_stay():
    (x, y), _ = reader(make_task(classes=None))(seed_of(3))
    assert {*shifts(x, y)} == {0}


def test_initial_kernels_are_redrawn_and_scaled():
    task = make_task()
    kernels = [
        task.sample(seed_of(i)).init_params(seed_of(i))[0].numpy()
        for i in (0, 0, 1)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0
    original = task.initial[2]
    for i in range(5):
        kernel = task.sample(seed_of(i)).init_params(seed_of(i))[2].numpy()
        ratio = kernel.std() / original.std()
        assert 0.45 < ratio < 2.2
        np.testing.assert_allclose(
            np.sort(np.abs(kernel), axis=None),
            np.sort(np.abs(original * ratio), axis=None),
            rtol=0.05,
            atol=0.01,
        )


def test_warm_starts_have_learned_and_a_fresh_last_layer():
    task = make_task(warm=0.5)
    assert len(task.pretrained) == 2
    warm = 0
    for i in range(20):
        params = [
            p.numpy() for p in task.sample(seed_of(i)).init_params(seed_of(i))
        ]
        is_warm = any(
            np.array_equal(params[0], model[0]) for model in task.pretrained
        )
        warm += is_warm
        # Biases have moved, but for those of the last layer.
        assert (np.abs(params[1]).max() > 0) == is_warm
        assert (params[3] == 0).all()
        for model in task.pretrained:
            assert not np.array_equal(params[2], model[2])
    assert 3 < warm < 17


def test_the_loss_of_held_out_examples_has_no_dropout():
    task, seed = make_task(), seed_of(0)
    episode = task.sample(seed)
    params = episode.init_params(seed)
    state = episode.init_non_trainable(seed)
    batch = episode.held_out_batch("train", seed, tf.constant(0))
    evaluated, trained = set(), set()
    for _ in range(3):
        loss = episode.evaluation_loss(params, state, batch)
        evaluated.add(float(loss))
        # Which draws other masks next time.
        loss, state = episode.stateful_loss(params, state, batch)
        trained.add(float(loss))
    assert len(evaluated) == 1
    assert len(trained) == 3


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="`fewest` must be at most half"):
        make_task(fewest=151)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"noisy": 1.5}, "`noisy` must be a number from 0 to 1"),
        ({"warm": "often"}, "`warm` must be a number from 0 to 1"),
        ({"classes": 1}, "`classes` must be an int from 2"),
        ({"fewest": 0}, "`fewest` must be an int from 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_task(**arguments)


def test_another_task_is_refused():
    with pytest.raises(ValueError, match="must be a keras_l2l.*KerasModelTask"):
        tasks.Varied(tasks.Quadratics(3))
