"""Tells that a first step is being compiled, when that takes long."""

import logging
import threading
import weakref

from keras_l2l.optimizer import describe
from keras_l2l.utils import backends

_PATIENCE = 3.0
_LOGGER = logging.getLogger("keras_l2l.first_step")


class FirstStep:
    """Logs one line if the first step is not done after three seconds."""

    def __init__(self):
        self._watched = False

    def watch(self, optimizer, shapes):
        """Called with each step; watches the first that TensorFlow traces.

        Args:
            optimizer: `LearnedOptimizer`.
            shapes: List of the variables' shapes.
        """
        if self._watched or not backends.is_tracing():
            return
        self._watched = True
        reference, number = weakref.ref(optimizer), len(set(shapes))

        def tell():
            optimizer = reference()
            if optimizer is not None and describe.steps(optimizer) == 0:
                _LOGGER.warning(
                    "The first step of this model is being compiled, for %d "
                    "tensors of %d shapes. It happens once and can take a "
                    "minute.",
                    len(shapes),
                    number,
                )

        timer = threading.Timer(_PATIENCE, tell)
        # The end of the process must not wait for it.
        timer.daemon = True
        timer.start()
