"""Detects that a training diverges or stalls, for `Guarded`."""

from keras import ops

# Losses are averaged over this number of steps.
_WINDOW = 20
# This share of all steps so far may pass without a new lowest loss.
_SHARE = 0.2
# The fallback continues from a loss below this share of the first loss.
_LOW = 0.1
# A parameter has run away at this multiple of the kept one (or of 1): in
# float32, an update of the old size would be lost in rounding.
_FAR = 1e7
# A single batch with a NaN is no divergence; this number of steps in a row is.
PERSISTS = 10


def init_state():
    """Returns the monitor's state before the first step, a dict of scalars."""
    names = (
        "handed_over",
        "average",
        "bad",
        "first",
        "lowest",
        "seen",
        "since",
    )
    return {name: ops.zeros((), dtype="float32") for name in names}


def watch(inputs, state, patience):
    """Evaluates one step, before its update.

    Args:
        inputs: `StepInputs`.
        state: State of `Guarded`, a dict.
        patience: Int, the most steps without a new lowest loss.

    Returns:
        Tuple `(monitor, keep, hand_over)`: the next state of the monitor, and
        two scalar bool tensors, whether to keep the parameters and whether to
        hand over.
    """
    before = _of_one_kind(inputs.loss is not None, state["monitor"])
    t = ops.cast(inputs.iteration, before["average"].dtype)
    average, is_finite = _average(inputs, before, state["last_updates"])
    waiting = ops.equal(before["handed_over"], 0)
    # At the first step nothing has been kept yet.
    starts = ops.equal(state["fallback"]["iteration"], 0)
    kept = [
        ops.where(starts, now, then)
        for now, then in zip(
            inputs.params, state["kept"]["params"], strict=True
        )
    ]
    good = ops.logical_and(is_finite, _are_near(inputs.params, kept))
    seen = ops.abs(before["seen"])
    first = ops.where(ops.equal(seen, 0), average, before["first"])
    # The average of a few losses can be low by chance; a sum of changes is not.
    early = seen < (1 if inputs.loss is None else min(_WINDOW, patience))
    improved = ops.logical_or(early, average < before["lowest"])
    improved = ops.logical_and(ops.logical_and(improved, good), waiting)
    since = ops.where(improved, 0 * t, before["since"] + 1)
    bad = ops.where(good, 0 * t, before["bad"] + 1)
    too_long = since > ops.maximum(_SHARE * t, float(patience))
    if inputs.loss is None:
        # The sum of changes is not a loss, so a share of it says nothing.
        keep = starts
        too_long = ops.logical_and(too_long, average > 0)
    else:
        # Neither does a share of a negative loss.
        low = ops.logical_and(first > 0, average <= _LOW * first)
        keep = ops.logical_or(starts, ops.logical_and(improved, low))
    hand_over = ops.logical_and(
        ops.logical_or(too_long, bad >= PERSISTS),
        ops.logical_and(waiting, ops.logical_not(starts)),
    )
    monitor = {
        # The step of the hand-over, counted from 1; 0 before it.
        "handed_over": ops.where(hand_over, t + 1, before["handed_over"]),
        "average": average,
        # After the hand-over, the value at the hand-over.
        "bad": ops.where(waiting, bad, before["bad"]),
        "first": first,
        "lowest": ops.where(improved, average, before["lowest"]),
        "seen": before["seen"]
        + (-1 if inputs.loss is None else 1) * ops.cast(is_finite, t.dtype),
        "since": since,
    }
    return monitor, keep, hand_over


def _of_one_kind(has_loss, monitor):
    """Returns the monitor, from the start on if losses come or go.

    A sum of changes has nothing to do with a loss. `seen` is negative where
    there is none.
    """
    other = monitor["seen"] < 0 if has_loss else monitor["seen"] > 0
    restarted = ("average", "first", "lowest", "seen", "since")
    return {
        name: ops.where(other, 0 * value, value) if name in restarted else value
        for name, value in monitor.items()
    }


def _average(inputs, before, last_updates):
    """Returns the average loss so far, and whether this loss is finite."""
    average, seen = before["average"], before["seen"]
    if inputs.loss is None:
        change = half_of_change(inputs.gradients, last_updates)
        finite = all_true(map(_is_somewhere_finite, inputs.gradients))
        return average + change, finite
    loss = ops.cast(inputs.loss, average.dtype)
    weight = ops.maximum(1 / (seen + 1), 1 / _WINDOW)
    finite = ops.isfinite(loss)
    # A NaN would stay in the average.
    loss = ops.where(finite, loss, average)
    return average + weight * (loss - average), finite


def half_of_change(gradients, updates):
    """Returns half of `gradients . updates`, or 0 if that is not finite."""
    products = [
        ops.sum(finite(g) * u) for g, u in zip(gradients, updates, strict=True)
    ]
    return finite(0.5 * sum(products))


def finite(tensor, other=None):
    """Returns a tensor, with `other` (or 0) where it is not finite."""
    other = ops.zeros_like(tensor) if other is None else other
    return ops.where(ops.isfinite(tensor), tensor, other)


def _is_somewhere_finite(gradient):
    if 0 in gradient.shape:
        return True
    return ops.any(ops.isfinite(gradient))


def _are_near(params, kept):
    return all_true(
        ops.abs(p) < _FAR * ops.maximum(ops.abs(k), 1)
        for p, k in zip(params, kept, strict=True)
    )


def all_true(tensors):
    """Returns whether all elements of some bool tensors are True."""
    # True for an empty list.
    return ops.all(ops.stack([ops.ones((), "bool"), *map(ops.all, tensors)]))
