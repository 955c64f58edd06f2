"""English text that ships with Python, for models of characters."""

import pydoc_data.topics

import numpy as np
import tensorflow as tf

from keras_l2l.tasks import base

# The characters of ASCII; "?" stands for all others.
VOCABULARY = 128
CONTEXT = 32


def load_characters():
    """Returns windows of the text of Python's help, about 465,000 characters.

    Each window has `CONTEXT` characters, for each of which the next one is to
    be predicted. The splits are consecutive parts of the text.

    Returns:
        Dict from each of `keras_l2l.tasks.SPLITS` to a pair of uint8 tensors
        `[windows, CONTEXT]`, the second one character ahead of the first.
    """
    # The order of a module's dict is that of its source.
    joined = "\n".join(pydoc_data.topics.topics.values())
    codes = np.frombuffer(joined.encode("ascii", "replace"), np.uint8)
    parts = np.split(codes, [len(codes) * 3 // 5, len(codes) * 4 // 5])
    return {
        split: _windows(part)
        for split, part in zip(base.SPLITS, parts, strict=True)
    }


def _windows(codes):
    number = (len(codes) - 1) // CONTEXT
    length = number * CONTEXT
    return tuple(
        tf.constant(codes[start : start + length].reshape(number, CONTEXT))
        for start in (0, 1)
    )
