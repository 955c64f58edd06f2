"""Uploading of presets to hubs, with a card in their form."""

import hashlib
import json
import os
import pathlib
import tempfile

import keras

from keras_l2l.presets import hub
from keras_l2l.presets import preset as preset_lib
from keras_l2l.presets.named_arrays import PresetError
from keras_l2l.utils import files

_CARD, _README = "card.json", "README.md"
# The end of a page that is written here. It tells pages that were edited since.
_END = "\n<!-- Written by keras_l2l.upload_preset, {} -->\n"
_TAGS = ("keras", "learned-optimizer", "learning-to-learn", "meta-learning")
# What a model card of this package says in words, in this order.
_TEXTS = {
    "use_for": "Use it for",
    "cost": "Cost against Adam",
    "loses": "Where it loses",
    "limits": "Known limits",
    "command": "Meta-trained by",
}


def upload_preset(
    uri: str, preset: keras.optimizers.Optimizer | str | os.PathLike[str]
) -> str:
    """Uploads a preset to the Hugging Face Hub or to Kaggle.

    ```
    keras_l2l.upload_preset("hf://ada/my_optimizer", "runs/mine/preset")
    optimizer = keras_l2l.LearnedOptimizer.from_preset("hf://ada/my_optimizer")
    ```

    Only the files of the preset are uploaded, and its `card.json` and
    `README.md` if the folder has them. Without a `README.md`, one is written
    for the hub, unless somebody has written or edited the one that is there.

    Args:
        uri: String, `hf://[{user}/]{name}` or
            `kaggle://{user}/{model}/keras/{variation}`. What is not there is
            created: public on the Hugging Face Hub if the user's settings do
            not differ, private on Kaggle. Otherwise it becomes the latest
            version.
        preset: `LearnedOptimizer`, or the folder or the name of a preset.

    Returns:
        String, the URI with the user's name, to load it from.

    Raises:
        PresetError: if the preset is damaged or does not exist, the URI is
            wrong, or the user may not write there.
        ImportError: if `huggingface_hub` or `kagglehub` is not installed.
    """
    hub.require_uri(uri)
    is_optimizer = hasattr(preset, "save_to_preset")
    if not is_optimizer and not isinstance(preset, (str, os.PathLike)):
        raise PresetError(
            "What is uploaded must be a LearnedOptimizer, or the folder or the "
            f"name of a preset. Received: a {type(preset).__name__}. Pass "
            "keras_l2l.LearnedOptimizer(rule=...) with the rule or the preset."
        )
    with tempfile.TemporaryDirectory() as temporary:
        contents, source = {}, preset
        if is_optimizer:
            source, folder = preset.preset, pathlib.Path(temporary) / "preset"
            preset.save_to_preset(folder)
            preset = folder
            if source not in preset_lib.shipped() and not hub.is_uri(source):
                source = None  # The name of a folder, which may be anywhere.
        if source is not None:
            # A page on a hub tells how to load it from there.
            on_hub = source is not preset or hub.is_uri(source)
            further = (_CARD,) if on_hub else (_CARD, _README)
            contents = preset_lib.read_files(source, further)[1]
        # Nothing damaged is shared.
        loaded = preset_lib.load_preset(preset)
        contents = {**contents, **preset_lib.read_files(preset)[1]}
        card = _card(contents.get(_CARD, b"{}"), source)
        uri = hub.create(uri)
        if _README not in contents:
            written = hub.read(uri, (), (_README,)).get(_README, b"")
            page = _readme(uri, loaded, card).encode()
            contents[_README] = written if _is_edited(written) else page
        folder = pathlib.Path(temporary) / "upload"
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        hub.upload(uri, folder, stale=(_CARD,))
        return uri


def _card(content, preset):
    try:
        return files.from_json(content, _CARD)
    except ValueError as error:
        raise PresetError(
            f"{error}, in {preset}. Fix the file, or remove it."
        ) from None


def _readme(uri, preset, card):
    """Returns the card of a preset in Markdown, with the hub's metadata."""
    metadata = ["library_name: keras_l2l", "tags:"]
    metadata += [f"- {tag}" for tag in _TAGS]
    if "license" in card:
        # JSON is YAML, whatever the string holds.
        metadata.append(f"license: {json.dumps(card['license'])}")
    about = {title: card[key] for key, title in _TEXTS.items() if key in card}
    about["Update rule"] = f"`{type(preset.rule).__name__}`"
    if preset.horizon is not None:
        about["Meta-trained on"] = f"runs of {preset.horizon:,} steps"
    rows = [
        f"| {e['task']} | {e['horizon']:,} | {r['optimizer']}{_tuned(r)} "
        f"| {r['learning_rate']:g} | {r['final_loss']:.4g} |"
        for e in card.get("evaluations", ())
        for r in e["results"]
    ]
    if rows:
        rows = [
            *("## Results", ""),
            "| task | steps | optimizer | learning rate | final loss |",
            *("| --- | --- | --- | --- | --- |", *rows, ""),
        ]
    page = "\n".join(
        [
            *("---", *metadata, "---", ""),
            *(f"# {uri.rpartition('://')[2]}", ""),
            card.get("description", "A learned optimizer for Keras."),
            *("", "```python", "import keras_l2l", ""),
            f'optimizer = keras_l2l.LearnedOptimizer.from_preset("{uri}")',
            "model.compile(optimizer, ...)",
            *("```", ""),
            *(f"- **{title}:** {text}" for title, text in about.items()),
            *("", *rows),
        ]
    )
    return page + _END.format(_digest(page))


def _digest(page):
    return hashlib.sha256(page.encode()).hexdigest()


def _is_edited(content):
    """Returns whether a page is another than `_readme` has written."""
    page = content.decode(errors="replace")
    start, _, _ = page.rpartition(_END[: _END.index("{")])
    return bool(page) and page != start + _END.format(_digest(start))


def _tuned(result):
    criteria = result.get("tuned_for")
    if not criteria:
        return ""
    return f", tuned for {' and '.join(c.replace('_', ' ') for c in criteria)}"
