import celo_data
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_l2l
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l.optimizer.execution import execution_of
from keras_l2l.presets import celo_weights
from keras_l2l.rules import cells

RULES = {"celo": rules.Celo, "celo_adam": rules.CeloAdam}
both = pytest.mark.parametrize("name", RULES)


class Recorded:
    """What the authors' implementation did, with the published weights."""

    def __init__(self, arrays):
        self._arrays = arrays
        self.names = [
            name.removeprefix("initial/")
            for name in arrays
            if name.startswith("initial/")
        ]
        self.initial = [arrays[f"initial/{name}"] for name in self.names]
        self.losses = arrays["losses"]
        self.num_steps = int(arrays["num_steps"])

    def gradients(self, t):
        return [self._arrays[f"gradients/{name}"][t] for name in self.names]

    def check(self, rule, t, params):
        """Asserts that parameters are those after step `t`."""
        for name, received in zip(self.names, params, strict=True):
            expected = self._arrays[f"{rule}/params/{name}"][t]
            np.testing.assert_allclose(
                received, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
            )


@pytest.fixture(scope="module")
def recorded():
    if not celo_data.TRAJECTORIES.exists():
        pytest.skip(f"{celo_data.TRAJECTORIES} is not there")
    return Recorded(dict(np.load(celo_data.TRAJECTORIES)))


@both
def test_rule_follows_the_authors_implementation(name, recorded, monkeypatch):
    # Tensors are computed in another way where they are large; as they are,
    # below.
    monkeypatch.setattr(cells, "LARGE", 1)
    rule, meta_params = celo_weights.read(celo_data.file(name))
    assert type(rule) is RULES[name]
    rule = rule.for_num_steps(recorded.num_steps)
    params = recorded.initial
    state = rule.init_state([p.shape for p in params])
    for t in range(30):
        inputs = rules.StepInputs(
            recorded.gradients(t), params, recorded.losses[t], t
        )
        updates, state = rule.step(meta_params, inputs, state)
        params = [
            p + np.asarray(u) for p, u in zip(params, updates, strict=True)
        ]
        recorded.check(name, t, params)


@both
def test_optimizer_follows_the_authors_implementation(name, recorded, tmp_path):
    presets.convert_celo(celo_data.file(name), tmp_path / "preset")
    optimizer = keras_l2l.LearnedOptimizer.from_preset(
        tmp_path / "preset", num_steps=recorded.num_steps
    )
    variables = [
        keras.Variable(value, name=tensor)
        for value, tensor in zip(recorded.initial, recorded.names, strict=True)
    ]
    for t in range(30):
        optimizer.scale_loss(recorded.losses[t])
        optimizer.apply(recorded.gradients(t), variables)
        recorded.check(name, t, [v.numpy() for v in variables])


def test_state_of_celo():
    shapes = [(3, 3, 16, 32), (32,), (100, 7), ()]
    spec = execution_of(rules.Celo(10), None).state_spec(shapes)
    floats = [
        sum(np.prod(t.shape) for t in keras.tree.flatten(tensor))
        for tensor in spec["tensors"]
    ]
    # Four for each element; what is not factored has three more.
    factors = 3 * (3 * 3 * 16 + 3 * 3 * 32)
    assert floats == [4 * 4608 + factors, 7 * 32, 4 * 700 + 3 * 107, 7]


@both
@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_leaves_no_trace_in_the_schedule(name, loss):
    rule = RULES[name](num_steps=20)
    meta_params = rule.init_meta_params(0)
    params, ones = [tf.ones((3, 2))], [tf.ones((3, 2))]
    state = rule.init_state([(3, 2)])
    inputs = rules.StepInputs(ones, params, tf.constant(1.0), 0)
    _, state = rule.step(meta_params, inputs, state)
    inputs = inputs._replace(loss=tf.constant(loss), iteration=1)
    (update,), after = rule.step(meta_params, inputs, state)
    assert np.isfinite(update).all()
    for key, value in state["schedule"].items():
        np.testing.assert_array_equal(after["schedule"][key], value)


@both
@pytest.mark.parametrize(
    "first, iteration", [(np.nan, 0), (None, 1000)], ids=["nan", "fresh state"]
)
def test_the_schedule_starts_at_any_iteration(name, first, iteration):
    rule = RULES[name](num_steps=20)
    meta_params = rule.init_meta_params(0)
    tensors = [tf.ones((3, 2))]

    def run(losses, iteration):
        state = rule.init_state([(3, 2)])
        for i, loss in enumerate(losses, iteration):
            inputs = rules.StepInputs(tensors, tensors, tf.constant(loss), i)
            _, state = rule.step(meta_params, inputs, state)
        return state["schedule"]

    losses = [3.0, 2.0, 4.0, 1.0]
    expected = run(losses, 0)
    received = run([first] * (first is not None) + losses, iteration)
    assert np.min(expected["means"]) > 0
    for key in ("means", "minima"):
        np.testing.assert_array_equal(received[key], expected[key])


@both
def test_what_is_missing_is_named(name):
    rule = RULES[name]()
    inputs = rules.StepInputs([tf.ones(2)], [tf.ones(2)], tf.ones(()), 0)
    state, meta_params = rule.init_state([(2,)]), rule.init_meta_params(0)
    with pytest.raises(ValueError, match="num_steps=None.*TrainingLength"):
        rule.step(meta_params, inputs, state)
    with pytest.raises(ValueError, match="loss=None"):
        rule.for_num_steps(9).step(
            meta_params, inputs._replace(loss=None), state
        )
    assert rule.for_num_steps(9).for_num_steps(10).num_steps == 9


@both
@pytest.mark.parametrize("num_steps", [0, -1, 1.5, "9", True])
def test_bad_numbers_of_steps(name, num_steps):
    with pytest.raises(ValueError, match="`num_steps` must be"):
        RULES[name](num_steps)
