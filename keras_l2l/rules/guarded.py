"""A rule that hands over to another one when it does not pay any more."""

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import hand_designed
from keras_l2l.rules import monitor
from keras_l2l.rules import serialization
from keras_l2l.rules import updates as updates_lib
from keras_l2l.rules import vectors
from keras_l2l.rules import wrapper
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class Guarded(wrapper.WrapperRule):
    """Lets a rule update the parameters for as long as the loss falls.

    ```
    average = moving average of the loss over 20 steps
    update = rule's       until the average has had no new low for too long, or
                          training has diverged for 10 steps in a row;
             fallback's   from then on
    ```

    At the hand-over the parameters are set to kept ones, exactly: also where a
    coordinate is masked, and at any learning rate. Kept are those at the lowest
    average, if that is at most a tenth of the first loss, and those of the
    start else: a rule may take a model that it is not made for to where no
    fallback gets far from, though the loss is lower there than at first. The
    fallback is told of the gradients up to there, so that its state is warm,
    but knows nothing of a divergence. Where it begins at the start, the result
    is as good as the fallback's a little earlier.

    Training has diverged in a step whose loss is NaN or infinite, or before
    which a parameter was that or 1e7 times as large as the kept one (or as 1).
    What else a model keeps, as the statistics of `BatchNormalization`, is not
    taken back. Under `mixed_float16` Keras skips steps whose gradients are not
    finite, and a rule does not learn of them.

    Without a loss, as in a custom loop that shows none, it hands over only
    where there is no doubt: if a whole gradient is NaN or infinite instead of
    the loss; and if there is no new low of the sum over steps of
    `(gradient before + gradient after) / 2 . update` and it is above 0. That
    sum is the change of the loss, on a quadratic; noise in the gradients, which
    updates follow, can only lower it. It does not tell a tenth, nor does a loss
    that is negative at first, so that the way back is to the start.

    Args:
        rule: `UpdateRule`.
        fallback: `UpdateRule` to hand over to. Defaults to `Adam()`.
        patience: Int >= 1, steps without a new low that are too long, or a
            fifth of all steps so far, if that is more. Defaults to 100.

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
    rounds_state = False

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

    def inner_rules(self):
        return {"rule": self.rule, "fallback": self.fallback}

    def with_inner_rules(self, rules):
        return type(self)(**rules, patience=self.patience)

    @property
    def unused(self):
        return self.rule.unused

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
            "monitor": monitor.init_state(),
        }

    def _init_fallback(self, shapes):
        # With a clock of its own, that goes back with it.
        return {
            "state": self.fallback.init_state(shapes),
            "iteration": ops.zeros((), dtype="float32"),
        }

    def step(self, meta_params, inputs, state):
        handed_over = state["monitor"]["handed_over"] > 0
        watched, keep, hand_over = monitor.watch(inputs, state, self.patience)
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
        # In the step of the hand-over `replacements` have the word.
        updates = [
            ops.where(
                hand_over,
                ops.zeros_like(u),
                monitor.finite(u, monitor.finite(other)),
            )
            for u, other in zip(updates, safe, strict=True)
        ]
        if inputs.loss is None:
            # The half of the change that this step's gradient tells.
            half = monitor.half_of_change(inputs.gradients, updates)
            watched["average"] = watched["average"] + half
        return updates, {
            "rule": of_rule,
            "fallback": fallback,
            "kept": kept,
            "last_updates": updates,
            "monitor": watched,
        }

    def replacements(self, state):
        kept, fallback = state["kept"], state["fallback"]
        handed_over = state["monitor"]["handed_over"] > 0
        # The clocks agree in the step of the hand-over alone.
        now = ops.logical_and(
            handed_over,
            ops.equal(fallback["iteration"], kept["fallback"]["iteration"]),
        )
        found = [updates_lib.Replacement(now, p) for p in kept["params"]]
        for used, inner in (
            (handed_over, self.fallback.replacements(fallback["state"])),
            (
                ops.logical_not(handed_over),
                self.rule.replacements(state["rule"]),
            ),
        ):
            used = ops.logical_and(used, ops.logical_not(now))
            found = [
                _or_inner(outer, replacement, used)
                for outer, replacement in zip(
                    found, inner or [None] * len(found), strict=True
                )
            ]
        return found

    def _step_fallback(self, meta_params, inputs, state):
        clock = state["fallback"]["iteration"]
        before = state["fallback"]["state"]
        iteration = ops.convert_to_tensor(inputs.iteration)
        updates, after = self.fallback.step(
            meta_params["fallback"],
            inputs._replace(iteration=ops.cast(clock, iteration.dtype)),
            before,
        )
        # It must be fit to take over.
        usable = monitor.all_true(map(ops.isfinite, keras.tree.flatten(after)))
        usable = ops.logical_or(usable, state["monitor"]["handed_over"] > 0)
        after = vectors.where(usable, after, before)
        return updates, {"state": after, "iteration": clock + 1}

    def remarks(self, state):
        inner = self.rule.remarks(state["rule"])
        step, bad, kept = (
            int(ops.convert_to_numpy(value))
            for value in (
                state["monitor"]["handed_over"],
                state["monitor"]["bad"],
                state["kept"]["fallback"]["iteration"],
            )
        )
        if not step:
            return inner
        inner = inner + self.fallback.remarks(state["fallback"]["state"])
        where = "the start" if kept == 1 else "where the loss was lowest"
        why = "the loss had no new low for too long"
        if bad >= monitor.PERSISTS:
            why = (
                f"for {monitor.PERSISTS} steps in a row the loss, gradients or "
                "parameters were NaN, infinite or too large"
            )
        return [
            *inner,
            f"{type(self.rule).__name__} handed over to "
            f"{type(self.fallback).__name__} at step {step}: {why}. "
            "Parameters were set to what they had been at step "
            f"{kept}, {where}.",
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


def _or_inner(outer, inner, used):
    """Returns a replacement, or that of a rule within if that is `used`."""
    if inner is None:
        return outer
    use = ops.logical_and(used, inner.when)
    return updates_lib.Replacement(
        ops.logical_or(outer.when, use),
        ops.where(use, inner.value, outer.value),
    )
