import pytest

from keras_l2l.optimizer import state_parts

SHAPES = [(2, 3), (), [0, 4], (7,)]


@pytest.mark.parametrize(
    "groups, shapes",
    [
        ([range(4)], [[(2, 3), (), (0, 4), (7,)]]),
        ([[1, 3], [0], [2]], [[(), (7,)], [(2, 3)], [(0, 4)]]),
    ],
)
def test_parts_hold_every_tensor_once(groups, shapes):
    divided = state_parts.Groups(SHAPES, groups)
    assert divided.shapes == shapes
    parts = divided.split("abcd")
    assert parts == [["abcd"[i] for i in group] for group in groups]
    assert divided.join(parts) == [*"abcd"]
