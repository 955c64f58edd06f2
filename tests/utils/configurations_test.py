from keras_l2l.utils.configurations import differences
from keras_l2l.utils.configurations import digest


def description(name, layer, seed=0):
    model = {"name": name, "config": {"layers": [{"name": layer}]}}
    return {"name": name, "config": {"model": model}, "seed": seed}


def test_differences_but_for_what_keras_counts():
    first = description("sequential", "dense")
    later = description("sequential_1", "dense_7")
    assert differences(first, later) == []
    assert digest(first) == digest({**later, "versions": 3})
    other = description("sequential_1", "conv2d_7", seed=1)
    assert len(differences(first, other)) == 2
    assert digest(first) != digest(other)
    # A name of the user's own, which tells tasks apart.
    fold_1, fold_2 = ({**first, "name": f"fold_{i}"} for i in (1, 2))
    assert differences(fold_1, fold_2) == ["name: fold_1 -> fold_2"]
    assert digest(fold_1) != digest(fold_2)
