"""English text that ships with Python, for models of characters."""

import pydoc_data.topics

import numpy as np
import tensorflow as tf

# Those of ASCII that can be printed, and one for all others.
VOCABULARY = 128
CONTEXT = 32


def load_characters():
    """Returns windows of the text of Python's own help, about 465,000 letters.

    Each is of `CONTEXT` characters, to predict from each the next one. The
    splits are parts of the text, one after the other, that do not overlap.

    Returns:
        Dict from each of `keras_l2l.tasks.SPLITS` to a pair of uint8 tensors
        `[windows, CONTEXT]`, the second one character on.
    """
    # The order of a module's dict is that of its source.
    joined = "\n".join(pydoc_data.topics.topics.values())
    codes = np.frombuffer(joined.encode("ascii", "replace"), np.uint8)
    train, meta_valid, _ = np.split(
        codes, [len(codes) * 3 // 5, len(codes) * 4 // 5]
    )[:3]
    parts = {"train": train, "meta_valid": meta_valid, "test": _}
    return {split: _windows(part) for split, part in parts.items()}


def _windows(codes):
    number = (len(codes) - 1) // CONTEXT
    length = number * CONTEXT
    return tuple(
        tf.constant(codes[start : start + length].reshape(number, CONTEXT))
        for start in (0, 1)
    )
