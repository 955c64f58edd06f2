"""Saving and loading of presets.

A preset is a folder of three files, none of which can execute anything:

- `config.json`: the registered class name and the configuration of the rule;
- `meta_params.npz`: its meta-parameters by name, without pickle;
- `metadata.json`: versions, the horizon of the meta-training if there was
  one, and the SHA-256 of the other two files.

Presets of this package (`keras_l2l/presets/weights/`) also have a model card,
`card.json`, with the data and the command of the meta-training and the results.
"""

import difflib
import hashlib
import io
import os
import pathlib
import reprlib
import typing

import keras
import numpy as np

from keras_l2l import version
from keras_l2l.presets import celo_weights
from keras_l2l.presets import hub
from keras_l2l.presets import named_arrays
from keras_l2l.presets.named_arrays import PresetError
from keras_l2l.presets.table import PresetTable
from keras_l2l.rules import Guarded
from keras_l2l.rules import base
from keras_l2l.rules import serialization
from keras_l2l.rules.wrapper import WrapperRule
from keras_l2l.utils import checks
from keras_l2l.utils import files
from keras_l2l.utils import npz

DEFAULT = "l2l_varied"
_SHIPPED = pathlib.Path(__file__).parent / "weights"
_CONFIG, _META_PARAMS, _METADATA = (
    "config.json",
    "meta_params.npz",
    "metadata.json",
)


class Preset(typing.NamedTuple):
    """A rule with its meta-parameters.

    Attributes:
        rule: `UpdateRule`.
        meta_params: Nest of tensors.
        horizon: Int, inner steps in an episode of its meta-training; `None`
            if unknown.
    """

    rule: base.UpdateRule
    meta_params: typing.Any
    horizon: int | None


def shipped() -> PresetTable:
    """Returns a dict from each preset of this package to its description.

    It is shown as a table of what each is for, what it costs and where it
    loses, in a notebook as HTML.
    """
    cards = {
        path.parent.name: {
            **files.read_json(path),
            "horizon": files.read_json(path.parent / _METADATA)["horizon"],
        }
        for path in sorted(_SHIPPED.glob("*/card.json"))
    }
    return PresetTable(cards, DEFAULT)


class ShippedPresets:
    """Class attribute whose value is `shipped()`, read each time."""

    def __get__(self, instance: typing.Any, owner: typing.Any) -> PresetTable:
        return shipped()


def save_preset(
    rule: base.UpdateRule,
    meta_params: typing.Any,
    directory: str | os.PathLike[str],
    horizon: int | None = None,
) -> None:
    """Writes a preset folder, complete or not at all.

    Args:
        rule: `UpdateRule`, of a class registered with Keras.
        meta_params: Nest of tensors, as from `rule.init_meta_params`.
        directory: Path of a folder that does not exist or is empty.
        horizon: Int, inner steps in an episode of meta-training, or `None`.

    Raises:
        FileExistsError: if the folder is not empty.
        PresetError: if `meta_params` do not fit the rule, or are not finite.
    """
    contents = _files(rule, meta_params, horizon)
    with files.new_folder(directory) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def replace_preset(
    rule: base.UpdateRule,
    meta_params: typing.Any,
    directory: str | os.PathLike[str],
    horizon: int | None = None,
) -> None:
    """Writes a preset like `save_preset`, but replaces one in the folder."""
    directory = pathlib.Path(directory)
    if not directory.exists():
        return save_preset(rule, meta_params, directory, horizon)
    # The checksums come last: until then a reader refuses the folder.
    for name, content in _files(rule, meta_params, horizon).items():
        path = directory / name
        if not path.exists() or path.read_bytes() != content:
            files.write(path, content)


def convert_celo(
    path: str | os.PathLike[str], output_dir: str | os.PathLike[str]
) -> None:
    """Converts meta-parameters of Celo's or Celo2's authors to a preset.

    ```
    keras_l2l.presets.convert_celo("theta.state", "celo")
    optimizer = keras_l2l.LearnedOptimizer.from_preset("celo", num_steps=2000)
    ```

    Args:
        path: Path of the downloaded `theta.state` of Celo or Celo-Adam, from
            `amoudgl/celo` or `amoudgl/celo-adam` on the Hugging Face Hub. Or
            of an `.npz` of Celo2: the arrays of the network in its authors'
            PyTorch code, by their names there.
        output_dir: Path of a new or empty folder.

    Raises:
        PresetError: if it is not such a file.
        FileExistsError: if the folder is not empty.
        ImportError: if the package msgpack is not installed, which Celo's
            files need.

    Reference:
        Moudgil et al., 2025 (arXiv 2501.12670); Celo2: arXiv 2602.19142.
    """
    save_preset(*celo_weights.read(path), output_dir)


def _files(rule, meta_params, horizon):
    """Returns a dict from each file's name to its content, checksums last."""
    buffer, arrays = io.BytesIO(), named_arrays.to_arrays(rule, meta_params)
    np.savez(buffer, **arrays)
    contents = {
        _CONFIG: files.to_json(serialization.serialize(rule)),
        _META_PARAMS: buffer.getvalue(),
    }
    contents[_METADATA] = files.to_json(
        {
            "keras_l2l_version": version.__version__,
            "keras_version": keras.version(),
            "meta_parameters": sum(a.size for a in arrays.values()),
            "horizon": horizon,
            "sha256": {
                name: hashlib.sha256(content).hexdigest()
                for name, content in contents.items()
            },
        }
    )
    return contents


def load_preset(name_or_dir: str | os.PathLike[str]) -> Preset:
    """Reads a preset.

    Args:
        name_or_dir: String or path: the name of a preset of this package (see
            `shipped`), a preset folder, or a preset on a hub, as
            `"hf://user/name"` or `"kaggle://user/model/keras/variation"`,
            which is downloaded to the cache of the hub's client.

    Returns:
        `Preset`.

    Raises:
        PresetError: if there is no such preset, or one of its files is
            missing, damaged or not of this package.
        ImportError: if a hub's client is not installed.
    """
    place, contents = read_files(name_or_dir)
    mend = "Copy the folder again."
    if hub.is_uri(name_or_dir):
        mend = "Delete it from the cache of the hub's client, or upload again."
    try:
        metadata = files.from_json(contents[_METADATA], _METADATA)
        digests, horizon = metadata.get("sha256"), metadata.get("horizon")
        if horizon is not None:
            checks.require_int("horizon", horizon)
        for name in (_CONFIG, _META_PARAMS):
            _check_digest(name, contents[name], digests, mend)
        config = files.from_json(contents[_CONFIG], _CONFIG)
        rule = serialization.deserialize(config)
        arrays = npz.load(io.BytesIO(contents[_META_PARAMS]))
    except ValueError as error:
        raise PresetError(f"In {place}: {error}") from error
    return Preset(rule, named_arrays.from_arrays(rule, arrays), horizon)


def read_files(name_or_dir, optional=()):
    """Returns where a preset is, and its files, a dict from names to bytes.

    Args:
        name_or_dir: As for `load_preset`.
        optional: Names of further files, read where they are.
    """
    names = (_CONFIG, _META_PARAMS, _METADATA)
    if hub.is_uri(name_or_dir):
        return name_or_dir, hub.read(name_or_dir, names, optional)
    folder = _find(name_or_dir)
    more = [name for name in optional if (folder / name).exists()]
    return folder, {name: _read(folder, name) for name in (*names, *more)}


def _read(directory, name):
    path = directory / name
    if not path.is_file():
        within = directory / "preset"
        mend = "Choose another folder, or save the preset again."
        if within.is_dir():
            mend = f"Pass {str(within)!r}."
        raise PresetError(
            f"A preset folder must hold {_CONFIG}, {_META_PARAMS} and "
            f"{_METADATA}. Received: {str(directory)!r}, which has no "
            f"{name}. {mend}"
        )
    if path.resolve().parent != directory.resolve():
        raise PresetError(
            "The files of a preset must lie in its folder. Received: "
            f"{path}, a link to one outside. Copy the file itself."
        )
    return path.read_bytes()


def _check_digest(name, content, digests, mend):
    expected = digests.get(name) if isinstance(digests, dict) else None
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise PresetError(
            f"{name} must have the SHA-256 recorded in {_METADATA} "
            f"({expected}). Received: {digest}. The file is damaged, or it was "
            f"changed by hand. {mend}"
        )


def guarded(
    name_or_dir: str | os.PathLike[str],
    fallback: base.UpdateRule | None = None,
    patience: int = 100,
) -> Preset:
    """Returns a preset whose rule is a `keras_l2l.rules.Guarded`.

    ```
    preset = keras_l2l.presets.guarded("l2l_fashion_mnist_mlp")
    optimizer = keras_l2l.LearnedOptimizer(rule=preset)
    ```

    Args:
        name_or_dir: As for `load_preset`.
        fallback, patience: As for `keras_l2l.rules.Guarded`.

    Raises:
        PresetError: as `load_preset` does.
    """
    preset = load_preset(name_or_dir)
    rule = Guarded(preset.rule, fallback, patience)
    meta_params = {
        "rule": preset.meta_params,
        "fallback": rule.fallback.init_meta_params(0),
    }
    # No horizon, since the guard is meant for runs beyond it.
    return Preset(rule, meta_params, None)


def name_of(
    rule: base.UpdateRule | Preset | str | os.PathLike[str] | None,
) -> str | None:
    """Returns the name of the preset, `None` if unknown.

    That is the last part of its folder's path, or its URI on a hub.

    Args:
        rule: As for `resolve`.
    """
    if rule is None:
        return DEFAULT
    if hub.is_uri(rule):
        return rule
    is_path = isinstance(rule, (str, os.PathLike))
    return pathlib.Path(rule).name if is_path else None


def resolve(
    rule: base.UpdateRule | Preset | str | os.PathLike[str] | None,
    meta_params: typing.Any,
) -> Preset:
    """Returns the `Preset` for the arguments of `LearnedOptimizer`.

    Args:
        rule: `UpdateRule`, `Preset`, name or folder of a preset, or `None`.
        meta_params: Nest of tensors, or `None`.

    Raises:
        ValueError: if `rule` is something else, or `meta_params` do not fit
            the rule.
    """
    if isinstance(rule, base.UpdateRule):
        if meta_params is None and isinstance(rule, WrapperRule):
            return _resolve_inner(rule)
        if meta_params is None:
            return Preset(rule, rule.init_meta_params(seed=0), None)
        arrays = named_arrays.to_arrays(rule, meta_params)
        return Preset(rule, named_arrays.from_arrays(rule, arrays), None)
    if meta_params is not None:
        raise ValueError(
            "`meta_params` need a `rule` that is a keras_l2l.UpdateRule. "
            f"Received: rule={rule!r}. Pass the rule that they belong to."
        )
    if isinstance(rule, Preset):
        return rule
    if rule is None:
        return load_preset(DEFAULT)
    if isinstance(rule, (str, os.PathLike)):
        return load_preset(rule)
    raise ValueError(
        "`rule` must be a keras_l2l.UpdateRule, a preset name or a preset "
        f"folder. Received: rule={reprlib.repr(rule)} (of type "
        f"{type(rule).__name__}). "
        f"Presets in this package: {', '.join(shipped())}. Pass one of them, "
        "an instance, as keras_l2l.rules.RNNprop(), or nothing for the default."
    )


def _resolve_inner(rule):
    """Returns the `Preset` of a rule that holds rules, names and presets."""
    found = {n: resolve(r, None) for n, r in rule.given_rules().items()}
    return Preset(
        rule.with_inner_rules({n: p.rule for n, p in found.items()}),
        {n: p.meta_params for n, p in found.items()},
        min((p.horizon for p in found.values() if p.horizon), default=None),
    )


def _find(name_or_dir):
    names, mend = shipped(), "Pass one of them."
    received = (
        f"{reprlib.repr(name_or_dir)} (of type {type(name_or_dir).__name__})"
    )
    if isinstance(name_or_dir, (str, os.PathLike)):
        if name_or_dir in names:
            return _SHIPPED / name_or_dir
        directory = pathlib.Path(name_or_dir)
        if directory.is_dir():
            return directory
        received = f"{name_or_dir!r}, and there is no such folder"
        near = difflib.get_close_matches(str(name_or_dir), names, 1)
        mend = f"Did you mean {near[0]!r}?" if near else mend
        if (directory.parent / "checkpoints").is_dir():
            raise PresetError(
                "A meta-training must end before it has a preset. Received: "
                f"{name_or_dir!r}, of a run that was stopped. Repeat the call "
                "with resume=True."
            )
    raise PresetError(
        "A preset must be one of this package, a preset folder, "
        f"{hub.forms()}. Received: {received}. Presets in this package: "
        f"{', '.join(names)}. {mend}"
    )
