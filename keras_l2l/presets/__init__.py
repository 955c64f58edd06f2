"""Presets: rules with their meta-parameters, in folders or in the package."""

from keras_l2l.presets.named_arrays import PresetError
from keras_l2l.presets.preset import DEFAULT
from keras_l2l.presets.preset import Preset
from keras_l2l.presets.preset import ShippedPresets
from keras_l2l.presets.preset import convert_celo
from keras_l2l.presets.preset import guarded
from keras_l2l.presets.preset import load_preset
from keras_l2l.presets.preset import name_of
from keras_l2l.presets.preset import replace_preset
from keras_l2l.presets.preset import resolve
from keras_l2l.presets.preset import save_preset
from keras_l2l.presets.preset import shipped
from keras_l2l.presets.upload import upload_preset

__all__ = [
    "DEFAULT",
    "Preset",
    "PresetError",
    "ShippedPresets",
    "convert_celo",
    "guarded",
    "load_preset",
    "name_of",
    "replace_preset",
    "resolve",
    "save_preset",
    "shipped",
    "upload_preset",
]
