"""The loss of a diverged training in comparisons."""

import numpy as np


def inf_if_diverged(losses):
    """Returns losses as float64, with inf for values that are not finite.

    NaN, -inf and `None` (their form in JSON) must not win a comparison, and a
    sum of inf and -inf would warn.

    Args:
        losses: Float or array; or nested lists of floats and `None`.
    """
    losses = np.asarray(losses, dtype=float)
    return np.where(np.isfinite(losses), losses, np.inf)
