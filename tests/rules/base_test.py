import keras
import numpy as np
import pytest

import keras_l2l
from keras_l2l import rules


def test_unknown_rule_lists_the_registered_ones():
    with pytest.raises(ValueError, match="keras_l2l>CoordinatewiseLSTM"):
        rules.deserialize({"class_name": "keras_l2l>Nope", "config": {}})


@pytest.mark.parametrize(
    "config", [None, 3, {}, {"class_name": "keras_l2l>SGD"}, "keras_l2l>SGD"]
)
def test_malformed_configuration(config):
    with pytest.raises(ValueError, match="class_name"):
        rules.deserialize(config)


def test_a_class_that_is_no_rule_is_refused():
    # Registered with Keras, but not a rule: nothing of it may be built.
    with pytest.raises(ValueError, match="registered"):
        rules.deserialize(
            {"class_name": "keras_l2l>LearnedOptimizer", "config": {}}
        )


def test_unknown_argument_names_the_rule():
    with pytest.raises(ValueError, match="keras_l2l>SGD does not accept"):
        rules.deserialize({"class_name": "keras_l2l>SGD", "config": {"x": 1}})


def test_mask_keeps_value_and_state_and_blocks_nan():
    rule = rules.Adam(learning_rate=0.5)
    meta_params = rule.init_meta_params(0)
    state = {"m": np.full(5, 2.0, "f4"), "v": np.full(5, 3.0, "f4")}
    gradients = [
        np.array([np.nan, 1.0, np.inf], "f4"),
        np.array([4.0, 5.0], "f4"),
    ]
    mask = [np.array([False, True, False]), False]
    inputs = rules.StepInputs(gradients, None, None, 0, mask)
    updates, new_state = rule.step(meta_params, inputs, state)
    # The same coordinate on its own, without a mask.
    alone, alone_state = rule.step(
        meta_params,
        rules.StepInputs([gradients[0][1:2]], None, None, 0),
        {"m": state["m"][1:2], "v": state["v"][1:2]},
    )
    np.testing.assert_array_equal(updates[0], [0, np.asarray(alone[0])[0], 0])
    np.testing.assert_array_equal(updates[1], [0, 0])
    for name in ("m", "v"):
        expected = state[name].copy()
        expected[1] = np.asarray(alone_state[name])[0]
        np.testing.assert_array_equal(new_state[name], expected)


def test_only_registered_rules_are_saved():
    class Nameless(rules.SGD):
        pass

    with pytest.raises(ValueError, match="registered.*Received: Nameless"):
        rules.serialize(Nameless())


def test_a_coordinatewise_rule_is_defined_by_its_coordinate_step():
    with pytest.raises(TypeError, match="Wrong, which overrides `step`"):

        class Wrong(rules.SGD):
            def step(self, meta_params, inputs, state):
                return inputs.gradients, state


@pytest.mark.parametrize(
    "found, message",
    [
        (lambda g: (g[:1], {"a": g}), r"an update of shape \(1,\)"),
        (lambda g: (0.5 * g, {}), r"a state of \[\]"),
        (lambda g: (g, {"a": g, "b": g}), r"a state of \['a', 'b'\]"),
        (lambda g: g, "an object of type"),
    ],
    ids=["shape", "no state", "more state", "no pair"],
)
def test_what_a_coordinate_step_returns(found, message):
    class Rule(rules.CoordinatewiseRule):
        def init_meta_params(self, seed):
            return {}

        def init_coordinate_state(self, n):
            return {"a": keras.ops.zeros((n,))}

        def coordinate_step(self, meta_params, gradient, state, iteration):
            return found(gradient)

    variable = keras.Variable(np.zeros((3, 2)))
    optimizer = keras_l2l.LearnedOptimizer(rule=Rule())
    with pytest.raises(ValueError, match=f"coordinate_step must.*{message}"):
        optimizer.apply([keras.ops.ones((3, 2))], [variable])
