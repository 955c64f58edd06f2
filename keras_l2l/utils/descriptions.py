"""Descriptions of functions, losses and models in `config.json`."""

import functools
import hashlib
import json
import types
import warnings

import keras
import numpy as np

from keras_l2l.utils import configurations

NOTE = "can't be made again from this description"
# Closures can be recursive, or hold large objects.
_DEPTH = 2


def described(thing):
    """Returns a JSON-able description of any object.

    It is that of `keras.saving.serialize_keras_object` if that is JSON-able.
    Other objects are described by name, with `NOTE` as their `"note"`. To
    distinguish them, a function has the digest of its code and its closure, a
    `functools.partial` its arguments, an array the digest of its content, and
    any other object its attributes.
    """
    found = of_keras(thing)
    return {"note": NOTE, **_by_name(thing, 0)} if found is None else found


def json_able(nest):
    """Returns a nest with descriptions of values that are not JSON-able."""
    if isinstance(nest, dict):
        return {str(key): json_able(value) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [json_able(value) for value in nest]
    return nest if _is_json_able(nest) else described(nest)


def of_keras(thing):
    """Returns Keras' own description, or `None` if it is not JSON-able."""
    # Keras describes a lambda by its line, and methods and inner functions only
    # by their name.
    if isinstance(thing, types.MethodType) or (
        isinstance(thing, types.FunctionType) and "<" in thing.__qualname__
    ):
        return None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*includes a `lambda`")
            found = keras.saving.serialize_keras_object(thing)
    except Exception:
        # An error in a `get_config` must not end a run.
        return None
    if isinstance(thing, keras.losses.Loss):
        # Keras omits some arguments, such as the `delta` of Huber.
        made_with = getattr(thing, "_fn_kwargs", {}).items()
        forgotten = {k: v for k, v in made_with if k not in found["config"]}
        found = {**found, **({"arguments": forgotten} if forgotten else {})}
    return found if _is_json_able(found) else None


def _is_json_able(thing):
    try:
        json.dumps(configurations.plain(thing))
    except (RecursionError, TypeError, ValueError):
        return False
    return True


def _by_name(thing, depth):
    def inner(nest):
        if isinstance(nest, (list, tuple)):
            return [inner(value) for value in nest]
        if isinstance(nest, dict):
            return {str(key): inner(value) for key, value in nest.items()}
        found = None if _is_array(nest) else of_keras(nest)
        return _by_name(nest, depth + 1) if found is None else found

    found = {"class_name": _name_of(type(thing))}
    if hasattr(thing, "__qualname__"):
        found["name"] = _name_of(thing)
    if depth > _DEPTH or isinstance(thing, type):
        return found
    if isinstance(thing, functools.partial):
        parts = {
            "function": thing.func,
            "arguments": thing.args,
            "keywords": thing.keywords,
        }
    elif isinstance(thing, types.MethodType):
        parts = {"function": thing.__func__, "object": thing.__self__}
    elif isinstance(thing, types.FunctionType):
        found["code"] = _digest(_parts_of(thing.__code__))
        parts = {
            "defaults": thing.__defaults__,
            "closure": _closure(thing),
        }
    elif _is_array(thing):
        array = keras.ops.convert_to_numpy(thing)
        parts = {
            "shape": array.shape,
            "dtype": array.dtype.name,
            "content": _digest([array.tobytes().hex()]),
        }
    else:
        parts = getattr(thing, "__dict__", {})
    return {**found, **{name: inner(part) for name, part in parts.items()}}


def _name_of(thing):
    return f"{thing.__module__}.{thing.__qualname__}"


def _is_array(thing):
    return isinstance(
        thing, (np.ndarray, keras.Variable)
    ) or keras.ops.is_tensor(thing)


def _closure(function):
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    found = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # The cell is empty.
            continue
    return found


def _parts_of(code):
    """Yields strings that identify code, whatever its place in a file."""
    yield code.co_code.hex()
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _parts_of(constant)
        elif isinstance(constant, frozenset):
            yield from sorted(map(repr, constant))
        else:
            yield repr(constant)


def _digest(parts):
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
