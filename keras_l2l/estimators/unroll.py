"""The pure inner loop: a rule trains a task for some inner steps."""

import typing

import tensorflow as tf

from keras_l2l.estimators.recomputation import recomputed
from keras_l2l.rules import gradients as gradients_lib
from keras_l2l.rules.base import StepInputs
from keras_l2l.rules.updates import apply_updates


class Carry(typing.NamedTuple):
    """The state between two inner steps.

    Attributes:
        params: List of tensors, the optimizee's parameters.
        state: Nest of tensors, the rule's state.
        seen: List of bool tensors, see `keras_l2l.rules.gradients.received`.
        non_trainable: List of tensors, the task's own state.
        iteration: Scalar int64 tensor, inner steps taken so far.
    """

    params: list
    state: typing.Any
    seen: list
    non_trainable: list
    iteration: typing.Any


def init_carry(rule, task, seed):
    """Returns the carry at the start of an episode.

    Args:
        rule: `UpdateRule`.
        task: `Task`.
        seed: Episode seed.
    """
    params = task.init_params(seed)
    shapes = [tuple(p.shape) for p in params]
    return Carry(
        params=params,
        state=rule.init_state(shapes),
        seen=gradients_lib.init_seen(rule, shapes),
        non_trainable=task.init_non_trainable(seed),
        iteration=tf.constant(0, tf.int64),
    )


def unroll(
    rule,
    task,
    meta_params,
    carry,
    batches,
    unroll_length,
    second_derivatives=False,
    num_steps=None,
    steps_per_epoch=None,
):
    """Takes `unroll_length` inner steps; differentiable in `meta_params`.

    ```
    gradients = d loss(params, batches(iteration)) / d params
    updates, state = rule.step(meta_params, gradients, state)
    params = apply_updates(rule, params, updates, state)
    losses[k] = loss(params, batches(iteration + 1))
    ```

    Each loss is that *after* its update, on the batch whose gradient the next
    update uses, so every update of the unroll counts in the meta-loss.

    Args:
        rule: `UpdateRule`.
        task: `Task`.
        meta_params: Nest of tensors.
        carry: `Carry`.
        batches: Function step -> batch, as from `Task.batches`.
        unroll_length: Int >= 1.
        second_derivatives: Bool, whether the gradients and the loss that the
            rule sees depend on `meta_params` (the paper drops this).
        num_steps: Scalar integer tensor, the length of the episode that the
            rule is told, or `None`.
        steps_per_epoch: Scalar float tensor, as from `Task.steps_per_epoch`;
            the rule is told it where it is told the length.

    Returns:
        Tuple `(losses, carry)`, `losses` of shape `[unroll_length]`.
    """

    inner_step = _inner_step(
        rule, task, meta_params, batches, (num_steps, steps_per_epoch)
    )

    def step(carry):
        loss, _, carry = inner_step(carry, second_derivatives)
        return [loss], carry

    like = [tf.TensorSpec([], loss_dtype(carry.params))]
    (losses,), carry = _scan(step, carry, unroll_length, like)
    # The loop saw the losses before each update: shift them by one step.
    last, _ = _loss(task, carry, batches(carry.iteration))
    return tf.concat([losses[1:], last[None]], axis=0), carry


def unroll_and_record(
    rule,
    task,
    meta_params,
    carry,
    batches,
    unroll_length,
    coordinates,
    num_steps=None,
    steps_per_epoch=None,
):
    """Unrolls without derivatives, and returns what the rule saw.

    Args:
        rule, task, meta_params, carry, batches, unroll_length: As there.
        coordinates: List of int tensors `[m]`, for each optimizee tensor the
            coordinates to record, counted in its flattened order.
        num_steps, steps_per_epoch: As there.

    Returns:
        Tuple `(losses, carry, gradients)`, the latter a list of tensors
        `[unroll_length + 1, m]`: the gradients of those coordinates that each
        inner step saw, and those after the last.
    """
    inner_step = _inner_step(
        rule, task, meta_params, batches, (num_steps, steps_per_epoch)
    )

    def step(carry):
        loss, gradients, carry = inner_step(carry)
        return [loss, *take(gradients, coordinates)], carry

    dtype = _rule_dtype(meta_params, carry.params)
    like = [tf.TensorSpec([], loss_dtype(carry.params))] + [
        tf.TensorSpec(c.shape, dtype) for c in coordinates
    ]
    (losses, *gradients), carry = _scan(step, carry, unroll_length, like)
    last, last_gradients, _ = _value_and_gradients(task, carry, batches)
    last_gradients = [
        gradients_lib.dense(g, p.shape, dtype)
        for g, p in zip(last_gradients, carry.params, strict=True)
    ]
    return (
        tf.concat([losses[1:], last[None]], axis=0),
        carry,
        [
            tf.concat([g, g_last[None]], axis=0)
            for g, g_last in zip(
                gradients, take(last_gradients, coordinates), strict=True
            )
        ],
    )


def take(tensors, coordinates):
    """Returns tensors `[m]`: of each tensor some coordinates.

    Args:
        tensors: List of tensors.
        coordinates: List of int tensors `[m]`, counted in the flattened order.
    """
    return [
        tf.gather(tf.reshape(t, [-1]), c)
        for t, c in zip(tensors, coordinates, strict=True)
    ]


def updates_of(
    rule,
    meta_params,
    gradients,
    state,
    seen,
    iteration,
    num_steps=None,
    steps_per_epoch=None,
):
    """Returns a rule's updates, given all gradients; differentiable.

    Args:
        rule: `UpdateRule` that looks at nothing but gradients.
        meta_params: Nest of tensors.
        gradients: List of tensors `[unroll_length, ...]`.
        state: Nest of tensors, the rule's state before the first of them.
        seen: List of bool tensors like the gradients of one step, or empty;
            before the first of them.
        iteration: Scalar int64 tensor, inner steps taken before.
        num_steps, steps_per_epoch: As for `unroll`.

    Returns:
        Tuple of a list of tensors like `gradients`, and of the state after
        the last.
    """
    step = recomputed(rule.step, rule.jit_compile)

    def one_step(carry):
        k, state, seen = carry
        found = gradients_lib.received(
            [g[k] for g in gradients],
            [g.shape[1:] for g in gradients],
            seen,
            gradients[0].dtype.name,
        )
        inputs = StepInputs(
            found.gradients,
            [None] * len(gradients),
            None,
            iteration + k,
            found.mask,
            num_steps,
            steps_per_epoch,
        )
        updates, state = step(meta_params, inputs, state)
        return updates, (k + 1, state, found.seen)

    updates, (_, state, _) = _scan(
        one_step,
        (tf.constant(0, tf.int64), state, seen),
        gradients[0].shape[0],
        [tf.TensorSpec(g.shape[1:], g.dtype) for g in gradients],
    )
    return updates, state


def _inner_step(rule, task, meta_params, batches, length):
    """Returns a function from a carry to `(loss, gradients, carry)`."""
    step = recomputed(rule.step, rule.jit_compile)

    def inner_step(carry, second_derivatives=False):
        # A rule works in the precision of its meta-parameters, whatever that
        # of the optimizee, as in `fit`.
        dtype = _rule_dtype(meta_params, carry.params)
        loss, gradients, non_trainable = _value_and_gradients(
            task, carry, batches
        )
        if not second_derivatives:
            gradients = [
                None
                if g is None
                else tf.nest.map_structure(
                    tf.stop_gradient, g, expand_composites=True
                )
                for g in gradients
            ]
        found = gradients_lib.received(
            gradients, [p.shape for p in carry.params], carry.seen, dtype
        )
        if not second_derivatives:
            loss = _with_gradients(loss, carry.params, found.gradients)
        seen_loss = loss if second_derivatives else tf.stop_gradient(loss)
        inputs = StepInputs(
            found.gradients,
            [
                tf.cast(p, dtype) if rule.uses_params else None
                for p in carry.params
            ],
            tf.cast(seen_loss, dtype),
            carry.iteration,
            found.mask,
            *length,
        )
        updates, state = step(meta_params, inputs, carry.state)
        params = apply_updates(rule, carry.params, updates, state)
        carry = Carry(
            params, state, found.seen, non_trainable, carry.iteration + 1
        )
        return loss, found.gradients, carry

    return inner_step


def _rule_dtype(meta_params, params):
    return (tf.nest.flatten(meta_params) or params)[0].dtype.name


def loss_dtype(params):
    """Returns the dtype of losses: half precision would round them."""
    return tf.float64 if params[0].dtype == tf.float64 else tf.float32


def _scan(step, carry, length, like):
    """Calls `step`, carry -> (outputs, carry); returns all outputs, stacked.

    Args:
        step: Function.
        carry: Nest of tensors.
        length: Int >= 1.
        like: List of `tf.TensorSpec`, of the outputs of one step.
    """
    arrays = [
        tf.TensorArray(spec.dtype, size=length, element_shape=spec.shape)
        for spec in like
    ]

    def body(k, arrays, carry):
        outputs, carry = step(carry)
        arrays = [a.write(k, o) for a, o in zip(arrays, outputs, strict=True)]
        return k + 1, arrays, carry

    _, arrays, carry = tf.while_loop(
        lambda k, *_: k < length,
        body,
        (tf.constant(0), arrays, carry),
        maximum_iterations=length,
    )
    return [array.stack() for array in arrays], carry


def _value_and_gradients(task, carry, batches):
    batch = batches(carry.iteration)
    with tf.GradientTape() as tape:
        tape.watch(carry.params)
        loss, non_trainable = _loss(task, carry, batch)
    return (
        loss,
        tape.gradient(loss, carry.params),
        tf.nest.map_structure(tf.stop_gradient, non_trainable),
    )


def _loss(task, carry, batch):
    loss, non_trainable = task.stateful_loss(
        carry.params, carry.non_trainable, batch
    )
    return tf.cast(loss, loss_dtype(carry.params)), non_trainable


def _with_gradients(loss, params, gradients):
    """Returns the loss, of which `gradients` are known to be the gradients.

    The meta-gradient then need not compute them a second time.
    """

    @tf.custom_gradient
    def known(*params):
        return tf.identity(loss), lambda upstream: [
            tf.cast(upstream, p.dtype) * tf.cast(g, p.dtype)
            for g, p in zip(gradients, params, strict=True)
        ]

    loss = tf.stop_gradient(loss)
    return known(*params)
