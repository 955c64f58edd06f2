"""What an optimizer says of itself."""

from keras_l2l.utils import backends


def optimizer(optimizer):
    """Returns the `repr` of a `LearnedOptimizer`."""
    parts = {
        "preset": optimizer.preset,
        "rule": _rule(optimizer.rule),
        "horizon": optimizer.horizon,
        "learning_rate": _rate(optimizer),
    }
    shown = [f"{name}={value}" for name, value in parts.items() if value]
    return f"<{type(optimizer).__name__} {', '.join(shown)}>"


def steps(optimizer):
    """Returns the steps of an optimizer so far; `None` if unknown.

    Each is one batch, also where gradients of several are accumulated.
    """
    iterations = optimizer._iterations
    if backends.is_tracing() or not backends.has_value(iterations):
        return None
    return backends.number(iterations)


def _rule(rule):
    """Returns the name of a rule, with those of the rules in it."""
    name, inner = type(rule).__name__, getattr(rule, "inner_rules", dict)()
    return f"{name}({', '.join(map(_rule, inner.values()))})" if inner else name


def _rate(optimizer):
    """Returns the current learning rate, or the name of a schedule."""
    rate = optimizer._learning_rate
    if callable(rate) and not hasattr(rate, "assign"):
        return type(rate).__name__
    if backends.is_tracing() or not backends.has_value(rate):
        return None
    return f"{backends.number(rate):.6g}"
