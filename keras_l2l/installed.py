"""Imported first: says what to install where Keras has no backend."""

try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("tensorflow", "jax", "torch"):
        raise
    raise ModuleNotFoundError(
        "Keras must have a backend: TensorFlow, JAX or PyTorch. Received: "
        f"{error}. Run `pip install {error.name}`; or install another of "
        "tensorflow, jax and torch, and set the environment variable "
        "KERAS_BACKEND to its name.",
        name=error.name,
    ) from None
