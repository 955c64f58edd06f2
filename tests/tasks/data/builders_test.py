import numpy as np
import pytest
import skimage.data
import tensorflow_datasets as tfds
from conftest import slow_but
from sklearn.datasets import load_sample_image

from keras_l2l import tasks
from keras_l2l.tasks.data import builders
from keras_l2l.tasks.data import datasets


class L2LDigitsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builders.L2LDigits
    SPLITS = {"train": 1500, "test": 297}
    EXAMPLE_DIR = tfds.core.Path(__file__).parent


def test_digits_are_those_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    data, num_classes = datasets.load_images("l2l_digits", tmp_path)
    assert num_classes == 10
    images, labels = (
        np.concatenate([data[s][i] for s in tasks.SPLITS]) for i in (0, 1)
    )
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    digits = load_digits()

    def rows(images, labels):
        return sorted(
            zip(map(bytes, images.astype(np.uint8)), labels, strict=True)
        )

    assert rows(images, labels) == rows(
        np.round(digits.images * 255 / 16), digits.target
    )
    assert {s: len(data[s][1]) for s in tasks.SPLITS} == {
        "train": 1200,
        "meta_valid": 300,
        "test": 297,
    }


# The checks of TFDS, which the digits pass above, on more data.
@pytest.mark.slow
class L2LPatchesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builders.L2LPatches
    SPLITS = {"train": 5000, "test": 1500}
    BUILDER_CONFIG_NAMES_TO_TEST = ["32"]
    EXAMPLE_DIR = tfds.core.Path(__file__).parent


@pytest.mark.slow
def test_patches_lie_in_the_regions_of_their_splits(tmp_path):
    data, classes = datasets.load_images("l2l_patches", tmp_path)
    assert classes == 10
    builder = tfds.builder("l2l_patches", data_dir=tmp_path)
    names = builder.info.features["label"].names
    photographs = {"coffee": skimage.data.coffee()}
    photographs["china"] = load_sample_image("china.jpg")
    bounds = {"train": (0, 0.6), "meta_valid": (0.6, 0.75), "test": (0.75, 1)}
    for name, photograph in photographs.items():
        windows = np.lib.stride_tricks.sliding_window_view(
            photograph, (32, 32, 3)
        )[:, :, 0]
        for split, (start, stop) in bounds.items():
            images, labels = (t.numpy() for t in data[split])
            mine = images[labels == names.index(name)]
            assert len(mine) == len(images) // 10
            for crop in mine[:2]:
                found = np.argwhere((windows == crop).all(axis=(2, 3, 4)))
                assert len(found) > 0
                width = photograph.shape[1]
                for _, x in found:
                    assert round(start * width) <= x
                    assert x + 32 <= round(stop * width)


@pytest.mark.parametrize("size", slow_but([64], [64, 128]))
def test_content_images_of_neural_art(size, tmp_path):
    data, _ = datasets.load_images(f"l2l_patches/{size}", tmp_path)
    numbers = {split: images.shape for split, (images, _) in data.items()}
    assert numbers == {
        "train": (96, size, size, 3),
        "meta_valid": (24, size, size, 3),
        "test": (24, size, size, 3),
    }
    for images, labels in data.values():
        # Not of the styles, and any eight in a row are of all the others.
        assert labels.numpy().tolist() == [*range(8)] * (len(labels) // 8)
        assert np.ptp(images, axis=(1, 2, 3)).min() >= 16
