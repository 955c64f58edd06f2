import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_l2l import tasks
from keras_l2l.tasks.data import builders
from keras_l2l.tasks.data import datasets


def test_splits_are_disjoint(tmp_path):
    data, _ = datasets.load_images("l2l_digits", tmp_path)
    rows = [{bytes(i) for i in data[s][0].numpy()} for s in tasks.SPLITS]
    assert sum(map(len, rows)) == len(set.union(*rows))


@pytest.fixture(scope="module")
def patches_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("patches")


def test_some_labels_alone(patches_dir):
    every, _ = datasets.load_images("l2l_patches", patches_dir)
    some, classes = datasets.load_images(
        "l2l_patches", patches_dir, labels=[7, 2]
    )
    assert classes == 2
    for split in tasks.SPLITS:
        images, labels = (t.numpy() for t in every[split])
        for new, old in enumerate([7, 2]):
            np.testing.assert_array_equal(
                some[split][0].numpy()[some[split][1].numpy() == new],
                images[labels == old],
            )


@pytest.mark.parametrize(
    "labels",
    [[3], [3, 3], [0, 10], "01", [0, -1], [[0], [1]], [0.0, 1.0], [True, 0]],
)
def test_labels_that_are_not_there(labels, patches_dir):
    with pytest.raises(tasks.DatasetError, match="`labels` must be a list"):
        datasets.load_images("l2l_patches", patches_dir, labels=labels)


def test_unprepared_data_set_fails_at_once_and_says_what_to_do(tmp_path):
    start = time.perf_counter()
    with pytest.raises(tasks.DatasetError) as error:
        datasets.load_images("fashion_mnist", tmp_path)
    assert time.perf_counter() - start < 1
    for part in ("fashion_mnist", str(tmp_path), "--download", "--data_dir"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_data_set(tmp_path):
    with pytest.raises(tasks.DatasetError, match="'nope'.*l2l_digits"):
        datasets.load_images("nope", tmp_path)


@pytest.mark.parametrize("name", ["l2l_digits:0.1.0", "mnist/nope", "mnist:"])
def test_unknown_version_or_configuration(name, tmp_path):
    with pytest.raises(tasks.DatasetError, match=f"version.*'{name}'"):
        datasets.load_images(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_on_disk(tmp_path):
    datasets.load_images("l2l_digits", tmp_path)
    (tmp_path / "l2l_digits").rename(tmp_path / "mnist")
    with pytest.raises(tasks.DatasetError, match=r"but version 1.*mnist:1\.0"):
        datasets.load_images("mnist", tmp_path)
    # What the message proposes is right.
    data, _ = datasets.load_images("mnist:1.0.0", tmp_path)
    assert len(data["test"][1]) == 297


def test_another_data_set_of_tfds(tmp_path):
    # TFDS' own stand-in for MNIST: the real path, prepared for real.
    builder = tfds.testing.DummyMnist(data_dir=tmp_path)
    builder.download_and_prepare()
    data, _ = datasets.load_images("dummy_mnist", tmp_path)
    for split in tasks.SPLITS:
        images, labels = data[split]
        assert images.dtype == np.uint8
        assert images.shape[1:] == (28, 28, 1)
        assert len(images) == len(labels) > 0


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_data_sets_that_need_a_download(name, tmp_path):
    # Their images and labels are accepted; only the data are missing.
    with pytest.raises(tasks.DatasetError, match=f"{name}.*must be prepared"):
        datasets.load_images(name, tmp_path)


def test_download_is_asked_for_only_when_allowed(tmp_path, monkeypatch):
    builder = tfds.builder("fashion_mnist", data_dir=tmp_path)
    asked = []

    def download_and_prepare(self):
        asked.append(self.name)
        raise FileExistsError

    monkeypatch.setattr(
        type(builder), "download_and_prepare", download_and_prepare
    )
    with pytest.raises(FileExistsError):
        datasets.load_images("fashion_mnist", tmp_path, download=True)
    assert asked == ["fashion_mnist"]


def test_a_race_for_one_folder_is_won_by_everybody(tmp_path, monkeypatch):
    prepare = builders.L2LDigits.download_and_prepare

    def prepared_meanwhile(self):
        prepare(tfds.builder("l2l_digits", data_dir=tmp_path))
        raise FileExistsError

    monkeypatch.setattr(
        builders.L2LDigits, "download_and_prepare", prepared_meanwhile
    )
    data, _ = datasets.load_images("l2l_digits", tmp_path)
    assert len(data["test"][1]) == 297


@pytest.mark.parametrize("name", ["coco_captions", "oxford_flowers102"])
def test_data_sets_without_images_of_one_size(name, tmp_path):
    with pytest.raises(tasks.DatasetError, match="images of one size"):
        datasets.load_images(name, tmp_path, download=True)
