"""TFDS data sets of files in other packages, which need no download."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds


class L2LDigits(tfds.core.GeneratorBasedBuilder):
    """The 1,797 handwritten digits (8x8) that ship inside scikit-learn.

    Needs no download. Pixels are scaled from 0-16 to 0-255.
    """

    name = "l2l_digits"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            description="Handwritten digits, 8x8, from scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 1500),
            "test": self._generate_examples(1500, 1797),
        }

    def _generate_examples(self, start, stop):
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        for i in range(start, stop):
            yield i, {"image": images[i, :, :, None], "label": digits.target[i]}


# Not copied. Public domain or CC0 by their packages, except: motorcycle, from
# Middlebury Stereo 2014, without a licence; china and flower, CC BY 2.0, by
# danielbuechele and vultilion on Flickr.
_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
    "china.jpg",
    "flower.jpg",
    "hubble_deep_field.jpg",
    "ihc.png",
)
_OF_SCIKIT_LEARN = ("china.jpg", "flower.jpg")


class L2LPatchesConfig(tfds.core.BuilderConfig):
    """Configuration of the crops of each photograph.

    Args:
        size: Int, height and width of a crop.
        numbers: Ints, number of crops from each region.
        photographs: Int, number of photographs, the first ones.
        zoom: Int, factor by which photographs are enlarged first.
    """

    def __init__(self, size, numbers, photographs=10, zoom=1):
        super().__init__(name=str(size), description=f"{size}x{size} crops")
        self.size = size
        self.numbers = numbers
        self.photographs = photographs
        self.zoom = zoom


class L2LPatches(tfds.core.GeneratorBasedBuilder):
    """Crops of ten photographs that ship in Python packages.

    The class of a crop is its photograph. Needs no download. Each photograph
    is divided into three regions, side by side. Crops of the first two, in
    this order and unshuffled, are the training split. Its last fifth, which is
    held out for `meta_valid`, therefore shares no pixel with the rest. Crops
    of the third region are the test split.
    """

    name = "l2l_patches"
    VERSION = tfds.core.Version("1.0.0")
    # 32 is for classification. 64 and 128 are content images of neural art,
    # where the last two photographs are the styles.
    BUILDER_CONFIGS = [
        L2LPatchesConfig(32, numbers=(400, 100, 150)),
        L2LPatchesConfig(64, numbers=(12, 3, 3), photographs=8),
        L2LPatchesConfig(128, numbers=(12, 3, 3), photographs=8, zoom=2),
    ]
    # Start and end of each region, as shares of the width.
    REGIONS = ((0.0, 0.6), (0.6, 0.75), (0.75, 1.0))

    def _info(self):
        size = self.builder_config.size
        return self.dataset_info_from_configs(
            description="Crops, labelled with their photograph.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3)),
                    "label": tfds.features.ClassLabel(
                        names=[pathlib.Path(p).stem for p in _PHOTOGRAPHS]
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://scikit-image.org",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 1),
            "test": self._generate_examples(2),
        }

    def _generate_examples(self, *regions):
        key = 0
        names = _PHOTOGRAPHS[: self.builder_config.photographs]
        for region in regions:
            crops = [
                self._crops(_photograph(name), label, region)
                for label, name in enumerate(names)
            ]
            # In turn, so that a few examples are of many photographs.
            for one_of_each in zip(*crops, strict=True):
                for label, crop in enumerate(one_of_each):
                    yield key, {"image": crop, "label": label}
                    key += 1

    def _crops(self, image, label, region):
        size, zoom = self.builder_config.size, self.builder_config.zoom
        number = self.builder_config.numbers[region]
        start, stop = (round(b * image.shape[1]) for b in self.REGIONS[region])
        image = image[:, start:stop]
        if zoom > 1:
            image = _enlarged(image, zoom)
        rng = np.random.default_rng((label, region))
        while number:
            y, x = (
                rng.integers(side - size, endpoint=True)
                for side in image.shape[:2]
            )
            crop = image[y : y + size, x : x + size]
            # Black margins are the same in every region.
            if np.ptp(crop) >= 16:
                number -= 1
                yield crop


def _enlarged(image, zoom):
    import skimage.transform

    image = skimage.transform.rescale(
        image, zoom, channel_axis=2, preserve_range=True
    )
    return np.round(image).astype(np.uint8)


def _photograph(name):
    """Returns an array `[height, width, 3]` of bytes."""
    import skimage.data
    import skimage.io
    from sklearn.datasets import load_sample_image

    if name in _OF_SCIKIT_LEARN:
        return load_sample_image(name)
    return skimage.io.imread(pathlib.Path(skimage.data.data_dir, name))


NEED_NO_DOWNLOAD = (L2LDigits, L2LPatches)
