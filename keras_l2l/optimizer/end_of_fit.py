"""What an optimizer tells its user at the end of a `fit`."""

import logging
import warnings

# The paper's rules work well for two horizons, and diverge at a hundred.
_FAR = 10
_LOGGER = logging.getLogger("keras_l2l")


class EndOfFit:
    """Tells each remark once.

    Args:
        horizon: Int, steps that the rule was meta-trained for; `None` where
            unknown.
    """

    def __init__(self, horizon):
        self._horizon = horizon
        self._warned = False
        self._told = []

    def tell(self, remarks, steps):
        """Logs new remarks, and warns far beyond the horizon.

        Args:
            remarks: List of strings.
            steps: Int, that the optimizer has taken.
        """
        for remark in remarks:
            if remark not in self._told:
                _LOGGER.warning(remark)
                self._told.append(remark)
        if self._horizon is None or self._warned:
            return
        if steps > _FAR * self._horizon:
            self._warned = True
            warnings.warn(
                "This learned optimizer was meta-trained for the first "
                f"{self._horizon} steps of a training, and has taken {steps}: "
                "it may make a model worse. Look at the loss; continue with "
                "another optimizer after the start, or meta-train for a longer "
                "horizon (train.meta_train --horizon).",
                stacklevel=3,
            )
