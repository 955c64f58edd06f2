import math

import numpy as np
import pytest
import tensorflow as tf

from keras_l2l.optimizer import state_parts

SHAPES = [(2, 3), (), (0, 4), (7,), (1, 1, 2)]
TENSORS = [
    tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)
    for shape in SHAPES
]


@pytest.mark.parametrize("size", [1, 3, 6, 7, 15, 16, 100])
def test_vectors_hold_every_coordinate_once(size):
    divided = state_parts.Vectors(SHAPES, size)
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
    whole = state_parts.Whole(SHAPES)
    assert whole.shapes == [SHAPES]
    (part,) = whole.split(TENSORS)
    assert all(a is b for a, b in zip(part, TENSORS, strict=True))
    assert whole.join([part]) is part


def test_nothing_stays_nothing():
    nothing = [None] * len(SHAPES)
    assert state_parts.Whole(SHAPES).split(nothing) == [nothing]
    assert state_parts.Vectors(SHAPES, 10).split(nothing) == [[None], [None]]


@pytest.mark.parametrize("shapes", [[], [(0,)], [(0, 2), (0,)]], ids=str)
def test_without_coordinates_there_is_one_empty_part(shapes):
    divided = state_parts.Vectors(shapes, 5)
    tensors = [tf.zeros(shape) for shape in shapes]
    assert divided.shapes == [[(0,)]]
    parts = divided.split(tensors)
    joined = divided.join(parts) if shapes else []
    assert [tuple(t.shape) for t in joined] == shapes


@pytest.mark.parametrize("size", [1, 4, 7, 100])
@pytest.mark.parametrize("saved_size", [3, 7, 100])
def test_a_state_is_saved_in_one_part_and_loaded_in_any(size, saved_size):
    n = sum(math.prod(shape) for shape in SHAPES)
    whole = [np.arange(2 * n).reshape(2, n), np.arange(n)]
    divided, saved = (
        state_parts.Vectors(SHAPES, s) for s in (size, saved_size)
    )
    parts = divided.split_state(whole, 2)
    assert [leaf.shape[-1] for leaf in parts[::2]] == [
        shape for ((shape,),) in divided.shapes
    ]
    # Files were once written in parts.
    for leaves in (whole, saved.split_state(whole, 2)):
        for a, b in zip(divided.split_state(leaves, 2), parts, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(divided.join_state(parts), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_no_such_state_stays_as_it_is():
    divided = state_parts.Vectors([(7,)], 4)
    for leaves in (
        [],
        [np.ones(6)],
        [np.ones(7)] * 2,
        [np.ones(())],
        [np.ones((2, 3)), np.ones((3, 4))],
    ):
        assert divided.split_state(leaves, 1) is leaves
        assert divided.split_state(leaves, 0) is leaves
        assert [*state_parts.Whole([(7,)]).split_state(leaves, 1)] == leaves
