"""What of this package runs on which Keras backend."""

import keras


def require_tensorflow(name):
    """Raises if Keras runs on another backend than TensorFlow.

    Args:
        name: String, what needs it.

    Raises:
        RuntimeError: on JAX, PyTorch and others.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{name} must run on Keras' TensorFlow backend. Received: "
            f"{backend}. Set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported; the presets "
            "made there work in LearnedOptimizer on every backend."
        )
