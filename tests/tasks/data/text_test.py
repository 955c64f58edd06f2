"""The text that ships with Python, in windows."""

import numpy as np

from keras_l2l.tasks.data import text


def test_windows_are_of_text_that_goes_on():
    data = text.load_characters()
    for windows, following in data.values():
        assert windows.shape == following.shape == (len(windows), text.CONTEXT)
        np.testing.assert_array_equal(windows[:, 1:], following[:, :-1])
        np.testing.assert_array_equal(windows[1:, 0], following[:-1, -1])
        assert int(np.max(following)) < text.VOCABULARY
    sizes = [len(data[s][0]) for s in ("train", "meta_valid", "test")]
    assert sizes[0] > 2.9 * sizes[1] and sizes[1] > 0.9 * sizes[2]
    assert sum(sizes) * text.CONTEXT > 300_000
    words = bytes(np.ravel(data["train"][0])).decode("ascii")
    assert " the " in words and "statement" in words


def test_splits_are_of_different_text():
    data = text.load_characters()
    windows = {
        split: {bytes(w) for w in np.asarray(part[0])}
        for split, part in data.items()
    }
    shared = windows["train"] & windows["test"]
    # Lines of blanks and dashes are everywhere.
    assert len(shared) < 0.02 * len(windows["test"])
