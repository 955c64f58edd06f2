"""Configurations of runs as nests for JSON, and their differences."""

import hashlib
import json
import math
import re

import numpy as np

from keras_l2l.utils import checks


def plain(content):
    """Returns a nest as JSON would; numbers that are not finite are None."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    if isinstance(content, (np.ndarray, np.generic)):
        return plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def digest(config):
    """Returns an int > 0 that identifies a configuration without versions."""
    content = {k: v for k, v in config.items() if k != "versions"}
    content = _without_counts(dict(_named_values(plain(content))))
    text = json.dumps(content, sort_keys=True).encode()
    return 1 + int(hashlib.sha256(text).hexdigest()[:7], 16)


def require_same(old, new):
    """Raises unless two configurations of a run are the same.

    Raises:
        ValueError: with the first differences.
    """
    changed = differences(old, plain(new))
    if changed:
        raise ValueError(
            "A run must continue with the configuration in its config.json. "
            f"Received: {checks.shortened('; '.join(changed), 320)}. Use the "
            "old values, or start a new run in another folder."
        )


def differences(old, new):
    """Returns the differences of two JSON-able nests, a list of strings.

    The numbers that Keras appends to the names of layers are ignored, since
    they count the models of a process.
    """
    old, new = (dict(_named_values(nest)) for nest in (old, new))
    compared_old, compared_new = _without_counts(old), _without_counts(new)
    return [
        f"{name}: {old.get(name, 'nothing')} -> {new.get(name, 'nothing')}"
        for name in dict.fromkeys([*old, *new])
        if compared_old.get(name) != compared_new.get(name)
    ]


def _named_values(nest, name=""):
    if isinstance(nest, dict) and nest:
        children = nest.items()
    elif isinstance(nest, list) and nest:
        children = enumerate(nest)
    else:
        yield name, str(nest)
        return
    for key, child in children:
        yield from _named_values(child, f"{name}.{key}" if name else str(key))


def _without_counts(values):
    """Returns values with the layers of a Keras model numbered from 0."""
    names = dict.fromkeys(
        value
        for key, value in values.items()
        if ".model." in key and key.endswith(".name")
    )
    stems = {
        name: f"{re.sub(r'_[0-9]+$', '', name)} {i}"
        for i, name in enumerate(names)
    }
    return {key: stems.get(value, value) for key, value in values.items()}
