import json

import numpy as np
import pytest
from conftest import regression_task

import keras_l2l
from keras_l2l import rules
from keras_l2l.evaluation import proposed_updates


def test_the_real_gradient_gets_the_real_update():
    task = regression_task()
    rule = rules.Momentum(0.1, 0.9)
    found = proposed_updates.proposed_updates(
        rule, rule.init_meta_params(0), task, (0, 3), coordinates=2, points=5
    )
    assert found["steps"] == [0, 3] and len(found["panels"]) == 2
    # At the start there is no history: minus the learning rate times g, and
    # Adam's sign.
    for panel in found["panels"][0]:
        gradients = np.array(panel["gradients"])
        np.testing.assert_allclose(
            panel["learned"], -0.1 * gradients, rtol=1e-5
        )
        np.testing.assert_allclose(
            panel["adam"], -0.001 * np.sign(gradients), rtol=1e-3, atol=1e-9
        )
        assert len(gradients) == 5 and gradients[2] == 0
        assert abs(panel["gradient"]) <= gradients[-1]
    # Later, momentum is the same line, moved by the history.
    for panel in found["panels"][1]:
        moved = np.array(panel["learned"]) + 0.1 * np.array(panel["gradients"])
        np.testing.assert_allclose(moved, moved[0], rtol=1e-4)
        assert abs(moved[0]) > 1e-4
    json.dumps(found)


def test_rules_that_are_not_coordinatewise_can_be_asked():
    task = regression_task()
    rule = rules.Partition([("bias", rules.SGD(0.5))], rules.SGD(0.2))
    found = proposed_updates.proposed_updates(
        rule, rule.init_meta_params(0), task, (0, 2), coordinates=21, points=3
    )
    slopes = {
        round(panel["learned"][-1] / panel["gradients"][-1], 3)
        for panels in found["panels"]
        for panel in panels
    }
    assert slopes == {-0.5, -0.2}


def test_what_cannot_be_asked():
    task = regression_task()
    with pytest.raises(ValueError, match="`rule` must be a"):
        proposed_updates.proposed_updates(None, {}, task)
    rule = keras_l2l.CoordinatewiseLSTM()
    meta_params = rule.init_meta_params(0)
    with pytest.raises(ValueError, match="`task` must be"):
        proposed_updates.proposed_updates(rule, meta_params, "task")
    for steps in ((5, 0), (0, 0), (-1, 0), 5, ()):
        with pytest.raises(ValueError, match="`steps` must be"):
            proposed_updates.proposed_updates(rule, meta_params, task, steps)
    with pytest.raises(ValueError, match="meta-parameters must have the"):
        proposed_updates.proposed_updates(rules.SGD(), meta_params, task)
