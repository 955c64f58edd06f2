"""Whether training goes well: what tells a guarded rule to hand over."""

from keras import ops

# Steps over which losses are averaged.
_WINDOW = 20
# Of all steps so far, how many may pass without a new low.
_SHARE = 0.2
# Of the first loss, what is low enough to go on from.
_LOW = 0.1
# Times the kept parameter (or 1), what has run away: in float32, a step of the
# old size would be lost in rounding.
_FAR = 1e7
# Steps in a row that tell a divergence from a batch with a NaN in it.
PERSISTS = 10


def init_state():
    """Returns what is known before the first step, a dict of scalars."""
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
    """Looks at one step, before the update.

    Args:
        inputs: `StepInputs`.
        state: Of a `Guarded`.
        patience: Int, steps without a new low that are too long.

    Returns:
        Tuple `(monitor, keep, hand_over)`: the next state of the monitor, and
        two scalar bool tensors, whether to keep the parameters, and whether to
        hand over.
    """
    before = state["monitor"]
    t = ops.cast(inputs.iteration, before["average"].dtype)
    average, is_finite = _average(inputs, state)
    waiting = ops.equal(before["handed_over"], 0)
    # Nothing is kept yet.
    starts = ops.equal(state["fallback"]["iteration"], 0)
    good = ops.logical_and(
        is_finite, _are_near(inputs.params, state["kept"]["params"])
    )
    unseen = ops.equal(before["seen"], 0)
    first = ops.where(unseen, average, before["first"])
    improved = ops.logical_or(unseen, average < before["lowest"])
    improved = ops.logical_and(ops.logical_and(improved, good), waiting)
    since = ops.where(improved, 0 * t, before["since"] + 1)
    bad = ops.where(good, 0 * t, before["bad"] + 1)
    too_long = since > ops.maximum(_SHARE * t, float(patience))
    if inputs.loss is None:
        # A sum of changes has no tenth.
        keep = starts
        too_long = ops.logical_and(too_long, average > 0)
    else:
        # Nor has what was negative.
        low = ops.logical_and(first > 0, average <= _LOW * first)
        keep = ops.logical_or(starts, ops.logical_and(improved, low))
    hand_over = ops.logical_and(
        ops.logical_or(too_long, bad >= PERSISTS),
        ops.logical_and(waiting, ops.logical_not(starts)),
    )
    monitor = {
        # The step at which it was, counted from 1; 0 for none.
        "handed_over": ops.where(hand_over, t + 1, before["handed_over"]),
        "average": average,
        # As it was at the hand-over.
        "bad": ops.where(waiting, bad, before["bad"]),
        "first": first,
        "lowest": ops.where(improved, average, before["lowest"]),
        "seen": before["seen"] + ops.cast(is_finite, t.dtype),
        "since": since,
    }
    return monitor, keep, hand_over


def _average(inputs, state):
    """Returns the average loss up to here, and whether this one is finite."""
    before = state["monitor"]
    average, seen = before["average"], before["seen"]
    if inputs.loss is None:
        change = half_of_change(inputs.gradients, state["last_updates"])
        finite = all_true(map(_is_somewhere_finite, inputs.gradients))
        return average + change, finite
    loss = ops.cast(inputs.loss, average.dtype)
    weight = ops.maximum(1 / (seen + 1), 1 / _WINDOW)
    finite = ops.isfinite(loss)
    # A NaN would stay.
    loss = ops.where(finite, loss, average)
    return average + weight * (loss - average), finite


def half_of_change(gradients, updates):
    """Returns half of the scalar product, or 0 if that is not finite."""
    products = [
        ops.sum(finite(g) * u) for g, u in zip(gradients, updates, strict=True)
    ]
    return finite(0.5 * sum(products))


def finite(tensor, other=None):
    """Returns a tensor where it is finite, and the other or 0 elsewhere."""
    other = ops.zeros_like(tensor) if other is None else other
    return ops.where(ops.isfinite(tensor), tensor, other)


def _is_somewhere_finite(gradient):
    if 0 in gradient.shape:
        return True
    return ops.any(ops.isfinite(gradient))


def _are_near(params, kept):
    return all_true(
        ops.abs(p) <= _FAR * ops.maximum(ops.abs(k), 1)
        for p, k in zip(params, kept, strict=True)
    )


def all_true(tensors):
    """Returns whether all of some bool tensors are True throughout."""
    # Of none they are.
    return ops.all(ops.stack([ops.ones((), "bool"), *map(ops.all, tensors)]))
