import math

import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import division

SHAPES = [(2, 3), (), (0, 4), (7,), (1, 1, 2)]
TENSORS = [
    tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)
    for shape in SHAPES
]


@pytest.mark.parametrize("size", [1, 3, 6, 7, 15, 16, 100])
def test_vectors_hold_every_coordinate_once(size):
    divided = division.Vectors(SHAPES, size)
    parts = divided.split(TENSORS)
    assert [[tuple(t.shape) for t in part] for part in parts] == divided.shapes
    assert [math.prod(shape) for (shape,) in divided.shapes] == [
        min(size, 16 - start) for start in range(0, 16, size)
    ]
    np.testing.assert_array_equal(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([np.ravel(t) for t in TENSORS]),
    )
    for a, b in zip(divided.join(parts), TENSORS, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_whole_is_one_part_of_all_as_they_are():
    whole = division.Whole(SHAPES)
    assert whole.shapes == [SHAPES]
    (part,) = whole.split(TENSORS)
    assert all(a is b for a, b in zip(part, TENSORS, strict=True))
    assert whole.join([part]) is part


def test_nothing_stays_nothing():
    nothing = [None] * len(SHAPES)
    assert division.Whole(SHAPES).split(nothing) == [nothing]
    assert division.Vectors(SHAPES, 10).split(nothing) == [[None], [None]]


@pytest.mark.parametrize("shapes", [[], [(0,)], [(0, 2), (0,)]], ids=str)
def test_without_coordinates_there_is_one_empty_part(shapes):
    divided = division.Vectors(shapes, 5)
    tensors = [tf.zeros(shape) for shape in shapes]
    assert divided.shapes == [[(0,)]]
    parts = divided.split(tensors)
    joined = divided.join(parts) if shapes else []
    assert [tuple(t.shape) for t in joined] == shapes
