"""The updates that a learned optimizer proposes, by gradient."""

import typing
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_l2l.presets import named_arrays
from keras_l2l.rules import Adam
from keras_l2l.rules import StepInputs
from keras_l2l.rules import UpdateRule
from keras_l2l.rules import gradients as gradients_lib
from keras_l2l.rules import vectors
from keras_l2l.rules.updates import apply_updates
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed
from keras_l2l.utils import checks


def proposed_updates(
    rule: UpdateRule,
    meta_params: typing.Any,
    task: TaskFamily,
    steps: Sequence[int] = (0, 10, 30, 90),
    coordinates: int = 2,
    points: int = 101,
    seed: int = 0,
) -> dict[str, typing.Any]:
    """Returns the updates that a rule would propose for other gradients.

    A model is trained with the rule. At some steps, the updates of a few
    coordinates are computed for a range of gradients, given the history of the
    training so far. The same is done for Adam at its default learning rate,
    with the same history of gradients.

    Args:
        rule: `UpdateRule`.
        meta_params: Nest of tensors, as from `rule.init_meta_params`.
        task: `Task` or `TaskFamily`.
        steps: Ints in increasing order, the inner steps to look at.
        coordinates: Int, number of coordinates. Those with the largest
            gradients at the start are chosen.
        points: Int, number of gradients in the range.
        seed: Int >= 0, seed of the training, in the split `test`.

    Returns:
        JSON-able dict of `task` and `rule` (names), `steps`, `coordinates`
        (their indices) and `panels`. For each step, `panels` has a list with a
        dict for each coordinate: `gradient` (the real one), and the lists
        `gradients`, `learned` and `adam` of `points` numbers.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), appendix.
    """
    if not isinstance(rule, UpdateRule):
        raise ValueError(
            "`rule` must be a keras_l2l.UpdateRule. Received: "
            f"{checks.shown(rule)}"
        )
    check_task(task)
    if (
        not isinstance(steps, (tuple, list))
        or not all(checks.is_int(step) and step >= 0 for step in steps)
        or list(steps) != sorted(set(steps))
        or not steps
    ):
        raise ValueError(
            "`steps` must be different ints from 0 on, in increasing order. "
            f"Received: steps={checks.shown(steps)}"
        )
    steps = list(map(int, steps))
    meta_params, _ = named_arrays.checked(rule, meta_params)
    coordinates = checks.require_int("coordinates", coordinates)
    points = checks.require_int("points", points, 2)
    seed = tf.constant(split_seed("test", seed), tf.int64)
    variables, task = task.variables(), task.sample(seed)
    batches = task.batches("test", seed)
    params = task.init_params(seed)
    non_trainable = task.init_non_trainable(seed)
    adam = Adam()
    watched = {
        "learned": _Watched(
            rule.for_num_steps(max(steps) + 1), meta_params, variables
        ),
        "adam": _Watched(adam, adam.init_meta_params(0), variables),
    }
    inputs_at = _inputs_at(task, batches)
    chosen, panels = None, []
    for step in range(max(steps) + 1):
        inputs, non_trainable = inputs_at(
            tf.constant(step, tf.int64), params, non_trainable
        )
        if chosen is None:
            chosen = np.argsort(-np.abs(vectors.join(inputs.gradients)))
            chosen = chosen[:coordinates]
        if step in steps:
            panels.append(
                [_panel(watched, inputs, int(i), points) for i in chosen]
            )
        moved = {name: each.step(inputs) for name, each in watched.items()}
        params = moved["learned"]
    return {
        "task": task.name,
        "rule": type(rule).__name__,
        "steps": steps,
        "coordinates": chosen.tolist(),
        "panels": panels,
    }


def _inputs_at(task, batches):
    """Returns a function that computes the `StepInputs` of a step."""

    @tf.function(autograph=False)
    def inputs_at(iteration, params, non_trainable):
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, non_trainable = task.stateful_loss(
                params, non_trainable, batches(iteration)
            )
        gradients = [
            gradients_lib.dense(g, p.shape)
            for g, p in zip(tape.gradient(loss, params), params, strict=True)
        ]
        return StepInputs(gradients, params, loss, iteration), non_trainable

    return inputs_at


class _Watched:
    """A rule and its state after a history of gradients."""

    def __init__(self, rule, meta_params, variables):
        self._rule = rule.for_variables(variables)
        self._meta_params = meta_params
        shapes = [tuple(v.shape) for v in variables]
        self._state = self._rule.init_state(shapes)
        self._seen = gradients_lib.init_seen(self._rule, shapes)

    def step(self, inputs):
        """Returns the parameters after a step."""
        updates, self._state, self._seen = self._step(
            inputs, self._state, self._seen
        )
        return apply_updates(self._rule, inputs.params, updates, self._state)

    @tf.function(autograph=False)
    def _step(self, inputs, state, seen):
        found = gradients_lib.received(
            inputs.gradients, [g.shape for g in inputs.gradients], seen
        )
        inputs = inputs._replace(gradients=found.gradients, mask=found.mask)
        return *self._rule.step(self._meta_params, inputs, state), found.seen

    def ask(self, inputs, index, tried):
        """Returns the updates of one coordinate for a range of gradients."""
        return self._ask(
            inputs, self._state, self._seen, tf.constant(index), tried
        )

    @tf.function(autograph=False)
    def _ask(self, inputs, state, seen, index, tried):
        gradient = vectors.join(inputs.gradients)

        def update(value):
            changed = tf.tensor_scatter_nd_update(gradient, [[index]], [value])
            gradients = vectors.split(
                changed, [g.shape for g in inputs.gradients]
            )
            updates, *_ = self._step(
                inputs._replace(gradients=gradients), state, seen
            )
            return vectors.join(updates)[index]

        return tf.map_fn(update, tried)


def _panel(watched, inputs, index, points):
    """Returns the updates of one coordinate over a range of gradients."""
    # The range is that of all current gradients.
    gradient = vectors.join(inputs.gradients)
    largest = float(tf.reduce_max(tf.abs(gradient)))
    tried = tf.linspace(-largest, largest, points)
    return {
        "gradient": float(gradient[index]),
        "gradients": tried.numpy().tolist(),
        **{
            name: each.ask(inputs, index, tried).numpy().tolist()
            for name, each in watched.items()
        },
    }
