"""`Guarded`: a rule that hands over to a fallback when it fails."""

import keras
from keras import ops

from keras_l2l.rules import base
from keras_l2l.rules import hand_designed
from keras_l2l.rules import monitor
from keras_l2l.rules import serialization
from keras_l2l.rules import updates as updates_lib
from keras_l2l.rules import vectors
from keras_l2l.rules import wrapper
from keras_l2l.utils import backends
from keras_l2l.utils import checks


@keras.saving.register_keras_serializable(package="keras_l2l")
class Guarded(wrapper.WrapperRule):
    """Applies a rule while the loss falls, then hands over to a fallback.

    ```
    average = moving average of the loss over 20 steps
    update = update of rule        until the average has had no new low for
                                   too long, or training has diverged for 10
                                   steps in a row;
             update of fallback    from then on
    ```

    At the hand-over the parameters are set exactly to kept ones, whatever the
    mask and the learning rate. These are the parameters at the lowest average
    if that is at most a tenth of the first loss, and the initial parameters
    otherwise: a rule may take an unsuitable model to a point with a lower loss
    from which no fallback makes progress. The fallback has seen the gradients
    up to the kept parameters, so its state is warm, but none of a divergence.
    If it begins at the initial parameters, the result is that of the fallback
    alone after fewer steps.

    The first losses only fill the average, as many as it has or as `patience`
    if that is less: the average of a few can be low by chance.

    Training has diverged in a step if the loss is NaN or infinite, or if a
    parameter before it is, or is 1e7 times as large as the kept one (or as 1).
    Other state of a model, such as the statistics of `BatchNormalization`, is
    not restored. Under `mixed_float16` Keras skips steps whose gradients are
    not finite, so the rule does not see them. All losses of an optimizer are
    compared with each other: for another loss or other data, compile the model
    with a new one.

    Without a loss, as in a custom loop that does not call `scale_loss`, it
    hands over only in clear cases: if a whole gradient (instead of the loss) is
    NaN or infinite, or if the sum over steps of
    `(gradient before + gradient after) / 2 . update` is above 0 and has had no
    new low for too long. On a quadratic that sum is the change of the loss.
    Noise in the gradients, which updates follow, can only lower it. No tenth
    of the first loss is known then, nor if the first loss is negative, so the
    kept parameters are the initial ones.

    Args:
        rule: `UpdateRule`.
        fallback: `UpdateRule` to hand over to. Defaults to `Adam()`.
        patience: Int >= 1. Too long is more than this number of steps without
            a new low, or a fifth of all steps so far if that is more. Defaults
            to 100.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.

    Example:
    >>> optimizer = keras_l2l.LearnedOptimizer(
    ...     rule=keras_l2l.rules.Guarded(keras_l2l.CoordinatewiseLSTM())
    ... )

    Reference:
        The idea of a guard: Premont-Schwarz et al., 2022 (arXiv 2201.12426).
        That guard compares the losses after steps of both rules. This one
        computes no additional loss.
    """

    uses_params = True
    uses_loss = True
    rounds_state = False

    def __init__(
        self,
        rule: base.UpdateRule,
        fallback: base.UpdateRule | None = None,
        patience: int = 100,
    ) -> None:
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
            # Those of the start, or of the lowest loss if it is low enough.
            "kept": {
                "params": zeros(),
                "fallback": self._init_fallback(shapes),
            },
            "last_updates": zeros(),
            "monitor": monitor.init_state(),
        }

    def _init_fallback(self, shapes):
        # With its own clock, which is restored with it.
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
        # The rule is not computed any more after the hand-over.
        updates, of_rule = ops.cond(
            handed_over,
            lambda: (list(safe), state["rule"]),
            lambda: self.rule.step(meta_params["rule"], inputs, state["rule"]),
        )
        # In the step of the hand-over, `replacements` sets the parameters.
        updates = [
            ops.where(
                hand_over,
                ops.zeros_like(u),
                monitor.finite(u, monitor.finite(other)),
            )
            for u, other in zip(updates, safe, strict=True)
        ]
        if inputs.loss is None:
            # This step's half of the change; the next gradient adds the other.
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
        # The clocks agree only in the step of the hand-over.
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
        # A state that is not finite could not take over.
        usable = monitor.all_true(map(ops.isfinite, keras.tree.flatten(after)))
        usable = ops.logical_or(usable, state["monitor"]["handed_over"] > 0)
        after = vectors.where(usable, after, before)
        return updates, {"state": after, "iteration": clock + 1}

    def remarks(self, state, steps):
        inner = self.rule.remarks(state["rule"], steps)
        step, bad, kept = (
            int(backends.number(value))
            for value in (
                state["monitor"]["handed_over"],
                state["monitor"]["bad"],
                state["kept"]["fallback"]["iteration"],
            )
        )
        if not step:
            return inner
        inner = inner + self.fallback.remarks(state["fallback"]["state"], steps)
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
    """Returns the inner replacement where it is `used`, and the outer else."""
    if inner is None:
        return outer
    use = ops.logical_and(used, inner.when)
    return updates_lib.Replacement(
        ops.logical_or(outer.when, use),
        ops.where(use, inner.value, outer.value),
    )
