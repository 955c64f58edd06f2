"""What a diverged training counts as, wherever losses are compared."""

import numpy as np


def inf_if_diverged(losses):
    """Returns losses as float64, with inf in place of all that is not finite.

    NaN, -inf and `None` (what JSON has for them) must neither win a comparison
    nor hide in it, and a sum of inf and -inf would warn.

    Args:
        losses: Float or array; or nested lists of floats and `None`.
    """
    losses = np.asarray(losses, dtype=float)
    return np.where(np.isfinite(losses), losses, np.inf)
