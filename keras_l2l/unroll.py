"""The pure inner loop: a rule trains a task for some inner steps."""

import typing

import tensorflow as tf

from keras_l2l import backends
from keras_l2l.rules.base import StepInputs


class Carry(typing.NamedTuple):
    """What one inner step hands to the next.

    Attributes:
        params: List of tensors, the optimizee's parameters.
        state: Nest of tensors, the rule's state.
        non_trainable: List of tensors, the task's own state.
        iteration: Scalar int64 tensor, inner steps taken so far.
    """

    params: list
    state: typing.Any
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
    return Carry(
        params=params,
        state=rule.init_state([tuple(p.shape) for p in params]),
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
):
    """Takes `unroll_length` inner steps; differentiable in `meta_params`.

    ```
    gradients = d loss(params, batches(iteration)) / d params
    updates, state = rule.step(meta_params, gradients, state)
    params = params + updates
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
        second_derivatives: Bool, whether the gradients that the rule sees
            depend on `meta_params` (the paper drops this).

    Returns:
        Tuple `(losses, carry)`, `losses` of shape `[unroll_length]`.
    """

    step = _recomputed(rule.step, rule.jit_compile)

    def body(k, losses, carry):
        loss, gradients, non_trainable = _value_and_gradients(
            task, carry, batches
        )
        if not second_derivatives:
            gradients = [tf.stop_gradient(g) for g in gradients]
            loss = _with_gradients(loss, carry.params, gradients)
        inputs = StepInputs(
            gradients,
            carry.params if rule.uses_params else [None] * len(gradients),
            tf.stop_gradient(loss),
            carry.iteration,
        )
        updates, state = step(meta_params, inputs, carry.state)
        params = [p + u for p, u in zip(carry.params, updates, strict=True)]
        carry = Carry(params, state, non_trainable, carry.iteration + 1)
        return k + 1, losses.write(k, loss), carry

    losses = tf.TensorArray(
        carry.params[0].dtype, size=unroll_length, element_shape=[]
    )
    _, losses, carry = tf.while_loop(
        lambda k, *_: k < unroll_length,
        body,
        (tf.constant(0), losses, carry),
        maximum_iterations=unroll_length,
    )
    # The loop saw the losses before each update: shift them by one step.
    last, _ = task.stateful_loss(
        carry.params, carry.non_trainable, batches(carry.iteration)
    )
    return tf.concat([losses.stack()[1:], last[None]], axis=0), carry


def _value_and_gradients(task, carry, batches):
    batch = batches(carry.iteration)
    with tf.GradientTape() as tape:
        tape.watch(carry.params)
        loss, non_trainable = task.stateful_loss(
            carry.params, carry.non_trainable, batch
        )
    gradients = tape.gradient(
        loss, carry.params, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return (
        loss,
        [tf.convert_to_tensor(g) for g in gradients],
        tf.nest.map_structure(tf.stop_gradient, non_trainable),
    )


def _with_gradients(loss, params, gradients):
    """Returns the loss, of which `gradients` are known to be the gradients.

    The meta-gradient then need not compute them a second time.
    """

    @tf.custom_gradient
    def known(*params):
        del params
        return tf.identity(loss), lambda upstream: [
            upstream * g for g in gradients
        ]

    loss = tf.stop_gradient(loss)
    return known(*params)


def _recomputed(step, jit_compile):
    """Returns a rule's step, of which the meta-gradient keeps only the inputs.

    What is between inputs and outputs is four times as large as they are, and
    computed again faster than it is written to memory and read.
    """
    # Not the whole unroll: compiling the optimizee gains nothing on CPUs, and
    # takes long for a large one.
    forward = backends.compiled(step, jit_compile)

    def backward(inputs, upstream):
        floats = list(filter(_is_float, tf.nest.flatten(inputs)))
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = tf.nest.flatten(step(*inputs))
        return tape.gradient(
            outputs,
            floats,
            upstream,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    backward = backends.compiled(backward, jit_compile)

    def call(*inputs):
        flat = tf.nest.flatten(inputs)
        structure = None

        # Of floats alone: nothing else has derivatives.
        @tf.custom_gradient
        def of_floats(*floats):
            nonlocal structure
            remaining = iter(floats)
            received = tf.nest.pack_sequence_as(
                inputs, [next(remaining) if _is_float(t) else t for t in flat]
            )
            structure = forward(*received)
            return tf.nest.flatten(structure), lambda *upstream: backward(
                received, upstream
            )

        outputs = of_floats(*filter(_is_float, flat))
        return tf.nest.pack_sequence_as(structure, outputs)

    return call


def _is_float(tensor):
    return tf.is_tensor(tensor) and tf.as_dtype(tensor.dtype).is_floating
