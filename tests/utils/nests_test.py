import collections

from keras_l2l import rules
from keras_l2l.utils import nests


def test_named_leaves_and_back():
    point = collections.namedtuple("Point", "y x")
    nest = {"b": [1, (2, 3)], "a": point(4, {"z": 5}), "10": 6, "9": 7}
    named = dict(nests.named_leaves(nest))
    assert named == {
        "10": 6,
        "9": 7,
        "a/0": 4,
        "a/1/z": 5,
        "b/0": 1,
        "b/1/0": 2,
        "b/1/1": 3,
    }
    packed = nests.pack_leaves(nest, named.values())
    assert packed == nest
    assert list(packed) == list(nest)
    assert type(packed["a"]) is point


def test_count_params_of_the_paper():
    for preprocessing, expected in (("log_and_sign", 5141), (None, 5061)):
        rule = rules.CoordinatewiseLSTM(preprocessing=preprocessing)
        assert rules.count_params(rule.init_meta_params(0)) == expected
