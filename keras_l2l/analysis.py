"""What a learned optimizer has learned: its update, seen as a function."""

import numpy as np
import tensorflow as tf

from keras_l2l import checks
from keras_l2l.rules import Adam
from keras_l2l.rules import CoordinatewiseRule
from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed


def proposed_updates(
    rule,
    meta_params,
    task,
    steps=(0, 10, 30, 90),
    coordinates=2,
    points=201,
    seed=0,
):
    """Returns the updates that a rule would propose, by the current gradient.

    An optimizee is trained with the rule. At some steps it is asked, for a
    few coordinates with the history that they have, which update each of a
    range of gradients would lead to. Adam, at its default learning rate, is
    given the same history of gradients and asked the same.

    Args:
        rule: `CoordinatewiseRule`.
        meta_params: Nest of tensors, the rule's.
        task: `Task` or `TaskFamily`.
        steps: Ints in increasing order, the inner steps at which to ask.
        coordinates: Int, how many: those with the largest gradients at the
            start.
        points: Int, gradients in the range.
        seed: Int >= 0, of the optimizee, in the split `test`.

    Returns:
        JSON-able dict: `task`, `rule` (names), `steps`, `coordinates` (their
        indices), and `panels`: for each step a list with, for each coordinate,
        a dict of `gradient` (the real one), and the lists `gradients`,
        `learned` and `adam` of `points` numbers.

    Raises:
        ValueError: if the rule is not coordinatewise, or another argument is
            of a wrong type or out of its range.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), appendix.
    """
    if not isinstance(rule, CoordinatewiseRule):
        raise ValueError(
            "`rule` must be a keras_l2l.CoordinatewiseRule: only such a one "
            f"sees a coordinate alone. Received: {rule!r}"
        )
    check_task(task)
    checks.require_int("coordinates", coordinates)
    checks.require_int("points", points, 2)
    seed = tf.constant(split_seed("test", seed), tf.int64)
    task = task.sample(seed)
    batches = task.batches("test", seed)
    params = task.init_params(seed)
    non_trainable = task.init_non_trainable(seed)
    adam = Adam()
    rules = {
        "learned": (rule, meta_params),
        "adam": (adam, adam.init_meta_params(0)),
    }
    size = sum(p.shape.num_elements() for p in params)
    states = {
        name: rule.init_coordinate_state(size)
        for name, (rule, _) in rules.items()
    }
    chosen, panels = None, []
    for step in range(max(steps) + 1):
        iteration = tf.constant(step, tf.int64)
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, non_trainable = task.stateful_loss(
                params, non_trainable, batches(iteration)
            )
        gradients = tape.gradient(
            loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradient = tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)
        if chosen is None:
            chosen = np.argsort(-np.abs(gradient))[:coordinates]
        if step in steps:
            panels.append(
                [
                    _panel(rules, states, gradient, i, iteration, points)
                    for i in chosen
                ]
            )
        for name, (each, values) in rules.items():
            update, states[name] = each.coordinate_step(
                values, gradient, states[name], iteration
            )
            if name == "learned":
                params = _add(params, update)
    return {
        "task": task.name,
        "rule": type(rule).__name__,
        "steps": list(steps),
        "coordinates": chosen.tolist(),
        "panels": panels,
    }


def _panel(rules, states, gradient, index, iteration, points):
    """Returns the updates of one coordinate over a range of gradients."""
    # Around 0, some way beyond what the coordinates have now.
    largest = float(tf.reduce_max(tf.abs(gradient)))
    tried = tf.linspace(-largest, largest, points)
    panel = {
        "gradient": float(gradient[index]),
        "gradients": tried.numpy().tolist(),
    }
    for name, (rule, meta_params) in rules.items():
        state = tf.nest.map_structure(
            lambda t: tf.repeat(t[..., index : index + 1], points, axis=-1),
            states[name],
        )
        update, _ = rule.coordinate_step(meta_params, tried, state, iteration)
        panel[name] = update.numpy().tolist()
    return panel


def _add(params, update):
    sizes = [p.shape.num_elements() for p in params]
    return [
        p + tf.reshape(u, p.shape)
        for p, u in zip(params, tf.split(update, sizes), strict=True)
    ]
