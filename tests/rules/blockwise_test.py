import numpy as np
import pytest
from conftest import assert_same
from conftest import leaves
from keras import ops

from keras_l2l import rules
from keras_l2l.rules import blockwise
from keras_l2l.rules.base import StepInputs

SHAPES = [(), (3,), (100, 7), (0, 4), (5, 2, 3)]


def arrays(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype("float32") for s in shapes]


@pytest.mark.parametrize("shapes", [SHAPES, [(100, 7)], [()]])
def test_tensors_come_back(shapes):
    joining = blockwise.Joining(shapes)
    tensors = arrays(shapes)
    array = joining.join(list(map(ops.convert_to_tensor, tensors)))
    assert tuple(array.shape) == joining.shape
    assert_same(joining.split(array), tensors)


def test_means_and_spread_are_of_each_tensor():
    joining = blockwise.Joining(SHAPES)
    blocks, tensors = joining.blocks(model_size=99), arrays(SHAPES)
    assert blocks.model_size == 99
    array = joining.join(list(map(ops.convert_to_tensor, tensors)))
    means, squares = blocks.means(array, array**2)
    expected = [t.mean() if t.size else 0 for t in tensors]
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-7)
    expected = [np.square(t).mean() if t.size else 0 for t in tensors]
    np.testing.assert_allclose(squares, expected, rtol=1e-5, atol=1e-7)
    spread = blocks.spread(lambda: means) * ops.ones_like(array)
    for a, mean, t in zip(joining.split(spread), means, tensors, strict=True):
        np.testing.assert_array_equal(a, np.full(t.shape, mean))


def test_layout_of_saved_states():
    # A change needs a way to load the states that users have saved.
    shapes = [(300, 1000), (1000,), (), (128, 255), (128, 2048)]
    state = rules.MomentumMixture().init_state(shapes)
    joined = {(16 + 1 + 510, 64), (3,)}
    kinds = [{v.shape for v in part.values()} for part in state]
    assert [{tuple(s) for s in kind} for kind in kinds] == [
        joined,
        {(300_000,), (1,)},
        {(262_144,), (1,)},
    ]


def test_the_smallest_tensors_are_joined_as_long_as_they_fit():
    assert blockwise.groups([]) == []
    assert blockwise.groups([(784, 128), (128,), (128, 10), (10,)]) == [
        [0, 1, 2, 3]
    ]
    large = [(1000, 800), (800,), (800, 200), (200,), (200, 200), (200,)]
    assert blockwise.groups(large) == [[1, 2, 3, 4, 5], [0]]
    # Those of fewer than 32,768 elements always are.
    assert blockwise.groups([(2**15 - 1,)] * 9) == [list(range(9))]
    assert blockwise.groups([(2**15,)] * 9) == [list(range(8)), [8]]


# A large tensor by itself, and with others in one array.
@pytest.mark.parametrize("shapes", [[(600, 512)], [(7,), (200, 512), (5, 512)]])
@pytest.mark.parametrize("masked", [False, True])
def test_means_over_a_large_tensor_are_of_a_sample(shapes, masked, monkeypatch):
    # Columns of different sizes, of which a sample must have all.
    gradients, params = (
        [t * np.arange(1, t.shape[-1] + 1, dtype="float32") for t in tensors]
        for tensors in (arrays(shapes), arrays(shapes, seed=1))
    )
    rule = rules.MomentumMixture(num_steps=10)
    mask = [np.broadcast_to(np.arange(s[-1]) % 8 > 0, s) for s in shapes]
    inputs = StepInputs(gradients, params, None, 0, mask if masked else None)

    def step():
        meta_params = rule.init_meta_params(0)
        updates, (state,) = rule.step(
            meta_params, inputs, rule.init_state(shapes)
        )
        return list(map(ops.convert_to_numpy, updates)), state

    near, sampled = step()
    assert blockwise.Joining(shapes).blocks(0).sample is not None
    monkeypatch.setattr(blockwise, "_SAMPLE", 2**20)
    monkeypatch.setattr(blockwise, "_LARGE", 2**21)
    exact, of_all = step()
    assert blockwise.Joining(shapes).blocks(0).sample is None
    errors = [
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(near, exact, strict=True)
    ]
    large = max(range(len(shapes)), key=lambda i: np.prod(shapes[i]))
    assert 1e-6 < errors.pop(large) < 0.03
    # The others have no more elements than a sample.
    np.testing.assert_allclose(errors, 0, atol=1e-5)
    ratio = ops.convert_to_numpy(sampled["scale"] / of_all["scale"])
    assert 1e-6 < np.abs(ratio - 1).max() < 0.03
    np.testing.assert_allclose(sampled["fast"], of_all["fast"], rtol=1e-5)


class _Measuring(rules.BlockwiseRule):
    """Keeps a mean that no update depends on."""

    def init_meta_params(self, seed):
        return {}

    def init_block_state(self, shape, tensors):
        return {"mean": ops.zeros((tensors,))}

    def block_step(self, meta_params, gradient, param, state, blocks, inputs):
        mean = blocks.once(lambda: blocks.means(gradient)[0])
        return -gradient, {"mean": mean}


@pytest.mark.parametrize("shapes", [[(600, 512)], [(7,), (200, 512)]])
def test_a_mean_of_a_sample_may_be_for_the_state_alone(shapes):
    rule, gradients = _Measuring(), [np.full(s, len(s)) for s in shapes]
    gradients = [g.astype("float32") for g in gradients]
    inputs = StepInputs(gradients, gradients, None, 0)
    updates, (state,) = rule.step({}, inputs, rule.init_state(shapes))
    np.testing.assert_allclose(state["mean"], list(map(len, shapes)), rtol=1e-5)
    assert_same(updates, [-g for g in gradients])


class _Nesting(_Measuring):
    """Moves by a mean, which is computed within something else."""

    def block_step(self, meta_params, gradient, param, state, blocks, inputs):
        def mean():
            (mean,) = blocks.means(gradient)
            return mean

        double = blocks.spread(lambda: 2 * blocks.once(mean))
        mean = blocks.once(mean)
        return -double * ops.ones_like(gradient), {"mean": mean}


class _Forgetting(_Measuring):
    """Computes a mean of all elements, too."""

    def block_step(self, meta_params, gradient, param, state, blocks, inputs):
        (mean,) = blocks.means(gradient)
        return -gradient, {"mean": mean}


def test_what_is_computed_once_may_compute_more_once():
    shapes = [(7,), (200, 512)]
    rule, gradients = _Nesting(), [np.full(s, 3.0, "float32") for s in shapes]
    inputs = StepInputs(gradients, gradients, None, 0)
    updates, (state,) = rule.step({}, inputs, rule.init_state(shapes))
    np.testing.assert_allclose(state["mean"], [3, 3], rtol=1e-5)
    for update in updates:
        np.testing.assert_allclose(update, -6, rtol=1e-5)


def test_means_of_a_sample_and_of_all_are_not_mixed():
    gradients = [np.ones((200, 512), "float32")]
    inputs = StepInputs(gradients, gradients, None, 0)
    rule = _Forgetting()
    with pytest.raises(ValueError, match="must be called within `blocks.once`"):
        rule.step({}, inputs, rule.init_state([(200, 512)]))


def test_a_tensor_by_itself_is_updated_as_among_others():
    rule = rules.MomentumMixture(num_steps=10)
    meta_params = rule.init_meta_params(0)
    shapes = [s for s in SHAPES if 0 not in s]
    gradients, params = arrays(shapes), arrays(shapes, seed=1)
    inputs = StepInputs(gradients, params, None, 0)
    together, _ = rule.step(meta_params, inputs, rule.init_state(shapes))
    for i, shape in enumerate(shapes):
        one = inputs._replace(
            gradients=gradients[i:][:1], params=params[i:][:1]
        )
        alone, _ = rule.step(meta_params, one, rule.init_state([shape]))
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4)


def test_masked_coordinates_keep_value_and_state():
    rule = rules.MomentumMixture()
    meta_params = rule.init_meta_params(0)
    shapes, mask = [(4, 3), (5,)], np.arange(12).reshape(4, 3) % 2 == 0
    first, second = arrays(shapes), arrays(shapes, seed=1)
    inputs = StepInputs(first, first, None, 0)
    _, state = rule.step(meta_params, inputs, rule.init_state(shapes))
    second[0][~mask] = np.nan
    inputs = StepInputs(second, first, None, 1, [mask, None])
    updates, after = rule.step(meta_params, inputs, state)
    assert np.isfinite(np.concatenate([np.ravel(u) for u in updates])).all()
    assert (np.asarray(updates[0])[~mask] == 0).all()
    assert (np.asarray(updates[0])[mask] != 0).all()
    assert all(np.isfinite(leaf).all() for leaf in leaves(after))
    joining = blockwise.Joining(shapes)
    for name in ("fast", "slow", "square"):
        old, new = (joining.split(s[0][name])[0] for s in (state, after))
        np.testing.assert_array_equal(
            np.asarray(old)[~mask], np.asarray(new)[~mask]
        )
        assert (np.asarray(old)[mask] != np.asarray(new)[mask]).all()
