import numpy as np
import pytest

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
