import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import tasks
from keras_l2l.tasks import base


def test_seeds_of_different_splits_never_meet():
    seeds = {
        split: {base.split_seed(split, seed) for seed in range(100)}
        for split in tasks.SPLITS
    }
    assert all(len(s) == 100 for s in seeds.values())
    assert len(set.union(*seeds.values())) == 300


def test_unknown_split_and_negative_seed():
    with pytest.raises(ValueError, match="train, meta_valid, test"):
        base.split_seed("valid", 0)
    with pytest.raises(ValueError, match="at least 0"):
        base.split_seed("train", -1)


def test_random_keys_differ_per_seed_and_stream():
    keys = {
        tuple(base.random_key(seed, *streams).numpy())
        for seed in (0, 1, 2**40)
        for streams in ((), (0,), (1,), (0, 1), (1, 0), (1, 1))
    }
    assert len(keys) == 18


def test_minibatches_are_drawn_anew_each_step_from_everything():
    data = tf.range(10), tf.range(10) * 2
    batch = base.minibatches(data, 4, seed=0)
    seen = [np.asarray(batch(tf.constant(step))) for step in range(30)]
    for x, y in seen:
        np.testing.assert_array_equal(2 * x, y)
    assert {int(v) for x, _ in seen for v in x} == set(range(10))
    assert len({tuple(x) for x, _ in seen}) > 25
    np.testing.assert_array_equal(batch(tf.constant(7)), seen[7])
