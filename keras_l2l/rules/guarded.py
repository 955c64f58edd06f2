"""A rule that hands over to another one when it does not pay any more."""

import keras
from keras import ops

from keras_l2l import checks
from keras_l2l.rules import base
from keras_l2l.rules import hand_designed
from keras_l2l.rules import serialization
from keras_l2l.rules import vectors

# Steps over which losses are averaged.
_WINDOW = 20
# Of all steps so far, how many may pass without a new low.
_SHARE = 0.2
# Of the first loss, what is low enough to go on from.
_LOW = 0.1


@keras.saving.register_keras_serializable(package="keras_l2l")
class Guarded(base.UpdateRule):
    """Lets a rule update the parameters for as long as the loss falls.

    ```
    average = moving average of the loss over 20 steps
    update = rule's                               until the average has had no
                                                  new low for too long;
             kept parameters - parameters         once;
             fallback's                           from then on
    ```

    Kept are the parameters at the lowest average, if that is at most a tenth of
    the first loss, and those of the start else: a rule may take a model that it
    is not made for to where no fallback gets far from, though the loss is lower
    there than at first. The fallback is told of the gradients up to there, so
    that its state is warm, but knows nothing of a divergence. Where it begins
    at the start, the result is as good as the fallback's a little earlier.

    Where no loss is to be had, as on JAX, the sum of `gradient . last update`
    over all steps stands for it: the change of the loss, as batches see it
    that the update was not made for. It does not tell a tenth, nor does a loss
    that is negative at first, so that the way back is to the start. (In full
    with a `learning_rate` of 1.0.)

    Args:
        rule: `UpdateRule`.
        fallback: `UpdateRule` to hand over to. Defaults to `Adam()`.
        patience: Int >= 1, steps without a new low that are too long, or a
            fifth of all steps so far, if those are more. Defaults to 100.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.

    Example:
    >>> optimizer = keras_l2l.LearnedOptimizer(
    ...     rule=keras_l2l.rules.Guarded(keras_l2l.CoordinatewiseLSTM())
    ... )

    Reference:
        The idea of a guard: Premont-Schwarz et al., 2022 (arXiv 2201.12426),
        which compares losses after steps of both. This one takes no further
        loss.
    """

    uses_params = True
    uses_loss = True

    def __init__(self, rule, fallback=None, patience=100):
        fallback = hand_designed.Adam() if fallback is None else fallback
        for name, given in (("rule", rule), ("fallback", fallback)):
            if not isinstance(given, base.UpdateRule):
                raise ValueError(
                    f"`{name}` must be a keras_l2l.UpdateRule. Received: "
                    f"{name}={given!r} (of type {type(given).__name__}). Pass "
                    "an instance, as rules.Adam(); for a preset call "
                    "keras_l2l.presets.guarded."
                )
        self.rule = rule
        self.fallback = fallback
        self.patience = checks.require_int("patience", patience)

    @property
    def needs_loss(self):
        return self.rule.needs_loss or self.fallback.needs_loss

    @property
    def jit_compile(self):
        return self.rule.jit_compile and self.fallback.jit_compile

    @property
    def rests_without_gradient(self):
        return (
            self.rule.rests_without_gradient
            and self.fallback.rests_without_gradient
        )

    @property
    def unused(self):
        return self.rule.unused

    def _with(self, method, argument):
        rule, fallback = (
            getattr(r, method)(argument) for r in (self.rule, self.fallback)
        )
        return type(self)(rule, fallback, self.patience)

    def for_variables(self, variables):
        return self._with("for_variables", variables)

    def for_num_steps(self, num_steps):
        return self._with("for_num_steps", num_steps)

    def init_meta_params(self, seed):
        return {
            "rule": self.rule.init_meta_params(seed),
            "fallback": self.fallback.init_meta_params(seed),
        }

    def init_state(self, shapes):
        def zeros():
            return [ops.zeros(shape, dtype="float32") for shape in shapes]

        return {
            "rule": self.rule.init_state(shapes),
            "fallback": self._init_fallback(shapes),
            # As they were at the start, or where the loss was low enough.
            "kept": {
                "params": zeros(),
                "fallback": self._init_fallback(shapes),
            },
            "last_updates": zeros(),
            "monitor": {
                name: ops.zeros((), dtype="float32")
                for name in (
                    "handed_over",
                    "average",
                    "first",
                    "lowest",
                    "change",
                    "seen",
                    "since",
                )
            },
        }

    def _init_fallback(self, shapes):
        # With a clock of its own, that goes back with it.
        return {
            "state": self.fallback.init_state(shapes),
            "iteration": ops.zeros((), dtype="float32"),
        }

    def step(self, meta_params, inputs, state):
        handed_over = state["monitor"]["handed_over"] > 0
        monitor, keep, hand_over = self._watch(inputs, state)
        safe, fallback = self._step_fallback(meta_params, inputs, state)
        now = {"params": list(inputs.params), "fallback": fallback}
        kept = vectors.where(keep, now, state["kept"])
        fallback = vectors.where(hand_over, kept["fallback"], fallback)
        # Which is not computed any more, once it is not used.
        updates, of_rule = ops.cond(
            handed_over,
            lambda: (list(safe), state["rule"]),
            lambda: self.rule.step(meta_params["rule"], inputs, state["rule"]),
        )
        updates = [
            ops.where(ops.isfinite(update), update, other)
            for update, other in zip(updates, safe, strict=True)
        ]
        masks = inputs.mask or [None] * len(updates)
        updates = [
            _back(update, hand_over, target - param, mask)
            for update, target, param, mask in zip(
                updates, kept["params"], inputs.params, masks, strict=True
            )
        ]
        return updates, {
            "rule": of_rule,
            "fallback": fallback,
            "kept": kept,
            "last_updates": updates,
            "monitor": monitor,
        }

    def _step_fallback(self, meta_params, inputs, state):
        clock = state["fallback"]["iteration"]
        iteration = ops.convert_to_tensor(inputs.iteration)
        updates, after = self.fallback.step(
            meta_params["fallback"],
            inputs._replace(iteration=ops.cast(clock, iteration.dtype)),
            state["fallback"]["state"],
        )
        return updates, {"state": after, "iteration": clock + 1}

    def _watch(self, inputs, state):
        """Returns the monitor, whether to keep this, and to hand over."""
        before = state["monitor"]
        dtype = before["average"].dtype
        t = ops.cast(inputs.iteration, dtype)
        change = before["change"]
        if inputs.loss is None:
            change += _dot(inputs.gradients, state["last_updates"])
            loss = change
        else:
            loss = ops.cast(inputs.loss, dtype)
        finite = ops.isfinite(loss)
        weight = ops.maximum(1 / (before["seen"] + 1), 1 / _WINDOW)
        average = before["average"] + ops.where(
            finite, weight * (loss - before["average"]), ops.zeros_like(loss)
        )
        waiting = ops.logical_not(before["handed_over"] > 0)
        starts = before["seen"] == 0
        first = ops.where(starts, average, before["first"])
        improved = ops.logical_or(starts, average < before["lowest"])
        improved = ops.logical_and(ops.logical_and(improved, finite), waiting)
        keep = starts
        # A sum of changes has no tenth, nor has what was negative.
        if inputs.loss is not None:
            low = ops.logical_and(first > 0, average <= _LOW * first)
            keep = ops.logical_or(starts, low)
        keep = ops.logical_and(improved, keep)
        since = ops.where(improved, ops.zeros_like(t), before["since"] + 1)
        too_long = since > ops.maximum(_SHARE * t, float(self.patience))
        # Before the first loss nothing is kept yet.
        hand_over = ops.logical_and(
            ops.logical_or(too_long, ops.logical_not(finite)),
            ops.logical_and(waiting, ops.logical_not(starts)),
        )
        monitor = {
            # The step at which it was, counted from 1; 0 for none.
            "handed_over": ops.where(hand_over, t + 1, before["handed_over"]),
            "average": average,
            "first": ops.where(finite, first, before["first"]),
            "lowest": ops.where(improved, average, before["lowest"]),
            "change": ops.where(ops.isfinite(change), change, before["change"]),
            "seen": before["seen"] + ops.cast(finite, dtype),
            "since": since,
        }
        return monitor, keep, hand_over

    def remarks(self, state):
        step = int(ops.convert_to_numpy(state["monitor"]["handed_over"]))
        if not step:
            return []
        kept = state["kept"]["fallback"]["iteration"]
        kept = int(ops.convert_to_numpy(kept))
        where = "the start" if kept == 1 else "where it was lowest"
        return [
            f"{type(self.rule).__name__} handed over to "
            f"{type(self.fallback).__name__} at step {step}: the loss had no "
            "new low for too long, or was not finite. Parameters are again as "
            f"they were at step {kept}, {where}."
        ]

    def get_config(self):
        return {
            "rule": serialization.serialize(self.rule),
            "fallback": serialization.serialize(self.fallback),
            "patience": self.patience,
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            serialization.deserialize(config["rule"]),
            serialization.deserialize(config["fallback"]),
            config["patience"],
        )


def _back(update, hand_over, back, mask):
    if mask is not None:
        back = ops.where(mask, back, ops.zeros_like(back))
    return ops.where(hand_over, back, update)


def _dot(gradients, updates):
    """Returns the scalar product of two lists of tensors."""
    return sum(
        ops.sum(ops.where(ops.isfinite(g), g, ops.zeros_like(g)) * u)
        for g, u in zip(gradients, updates, strict=True)
    )
