"""The paper's preprocessing of gradients."""

import math

from keras import ops


def log_and_sign(gradient, p=10.0):
    """Returns the paper's two features of a gradient: log-magnitude and sign.

    ```
    (log|gradient| / p, sign(gradient))    where |gradient| >= exp(-p)
    (-1, exp(p) * gradient)                elsewhere
    ```

    Both features are continuous and lie in [-1, 1] for |gradient| <= exp(p).
    Their derivatives are finite everywhere, including at 0.

    Args:
        gradient: Floating tensor of shape `[n]`.
        p: Positive float. Gradients below `exp(-p)` are small.

    Returns:
        Tensor of shape `[2, n]`, with the dtype of `gradient`.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), appendix A.
    """
    # Not a `where`: its untaken branch would turn a gradient of 0 into a NaN
    # meta-gradient.
    magnitude = ops.maximum(ops.abs(gradient), math.exp(-p))
    return ops.stack(
        [
            ops.log(magnitude) / p,
            ops.clip(math.exp(p) * gradient, -1.0, 1.0),
        ]
    )
