"""A warning where an optimizer goes far beyond what it was trained for."""

import logging
import warnings

from keras import ops

from keras_l2l.optimizer import skipped_steps
from keras_l2l.utils import backends
from keras_l2l.utils import checks

# The paper's rules go on well for two horizons, and diverge at a hundred.
_FAR = 10
_LOGGER = logging.getLogger("keras_l2l")


class HorizonOptimizer(skipped_steps.SkipCountingOptimizer):
    """An optimizer that knows for how many steps it was meta-trained.

    Args:
        horizon: Int, or `None` where unknown.
    """

    def __init__(self, horizon, **kwargs):
        super().__init__(**kwargs)
        if horizon is not None:
            horizon = checks.require_int("horizon", horizon)
        self.horizon = horizon
        self._warned = False
        self._told = []

    def remarks(self):
        """Returns what the rule has to tell, a list of strings."""
        raise NotImplementedError

    def set_num_steps(self, num_steps):
        """Tells a rule that depends on it how long the training is.

        Nothing changes where the rule has been told.

        Args:
            num_steps: Int >= 1, steps of this optimizer.
        """
        self.rule = self.rule.for_num_steps(num_steps)

    def finalize_variable_values(self, var_list):
        """Tells what there is to tell; Keras calls it at the end of `fit`."""
        if not all(map(backends.has_value, self.variables)):
            # An error has ended this `fit`, and is on its way to the user.
            return
        super().finalize_variable_values(var_list)
        for remark in [*self.remark_of_skipped_steps(), *self.remarks()]:
            if remark not in self._told:
                _LOGGER.warning(remark)
                self._told.append(remark)
        if self.horizon is None or self._warned:
            return
        steps = int(ops.convert_to_numpy(self.iterations))
        if steps > _FAR * self.horizon:
            self._warned = True
            warnings.warn(
                "This learned optimizer was meta-trained for the first "
                f"{self.horizon} steps of a training, and has taken {steps}: "
                "it may make a model worse. Look at the loss; go on with "
                "another optimizer after the start, or meta-train for a longer "
                "horizon (train.meta_train --horizon).",
                stacklevel=2,
            )

    def get_config(self):
        return {**super().get_config(), "horizon": self.horizon}
