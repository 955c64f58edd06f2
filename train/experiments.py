"""Experiments, the paper's above all, as data: one place for all settings."""

import typing

from keras_l2l import evaluation
from keras_l2l.tasks import networks


class Test(typing.NamedTuple):
    """An evaluation of what was meta-trained.

    Attributes:
        task: String, a name in `train.registry.TASKS`.
        horizon: Int, inner steps.
        seeds: Int, optimizees reported.
        tuning_seeds: Int, optimizees that the baselines are tuned on.
        dataset: String, or `None` for that of the flags.
        split: One of `keras_l2l.tasks.SPLITS`, what optimizees train on.
        block: Int, inner steps whose losses are averaged.
        learning_rates: Floats, what baselines are tuned over.
        guarded: Bool, whether the presets are, by Adam.
        baselines: String, the result in `train/results/` whose baselines are
            taken, such as "long/fashion_conv"; `None` tunes them.
    """

    task: str
    horizon: int = 100
    seeds: int = 20
    tuning_seeds: int = 10
    dataset: str | None = None
    split: str = "test"
    block: int = 1
    learning_rates: tuple = evaluation.LEARNING_RATES
    guarded: bool = False
    baselines: str | None = None


class Experiment(typing.NamedTuple):
    """What is meta-trained, and what it is tested on.

    Attributes:
        flags: Dict, values of `train.meta_train`'s flags that are not given.
        tests: Dict from a name to a `Test`.
        stages: List of dicts of flags beside those. Each stage starts from
            the preset of the one before: a curriculum.
        quick: Dict of flags beside `QUICK`, with which --quick takes two
            minutes at most.
    """

    flags: dict
    tests: dict
    stages: list = ({},)
    quick: dict = {}


def _conv_tests(name):
    """Returns the tests of the CIFAR experiment, with a network of a name."""
    return {
        "base": Test(name, horizon=1000, tuning_seeds=4),
        "5_labels": Test(f"{name}_5", horizon=1000, seeds=10, tuning_seeds=2),
        "2_labels": Test(f"{name}_2", horizon=1000, seeds=10, tuning_seeds=2),
    }


def _long_tests():
    """Returns the tests of full training runs, one for each network."""
    return {
        name: Test(
            name,
            horizon=10_000,
            seeds=10,
            tuning_seeds=_LONG_TUNING_SEEDS.get(name, 1),
            split="train",
            block=50,
            learning_rates=LONG_LEARNING_RATES,
            baselines=f"long/{name}",
        )
        for name in networks.TEST_NETWORKS
    }


def _art(task="neural_art", **arguments):
    """Returns a test on content images of the split."""
    return Test(task, **{"horizon": 128, "tuning_seeds": 2, **arguments})


# Five decades, three values in each.
LONG_LEARNING_RATES = tuple(
    float(f"{10 ** (k / 3):.3g}") for k in range(-12, 4)
)

# Fewer for those that take long.
_LONG_TUNING_SEEDS = {
    "digits_relu": 4,
    "digits_sigmoid": 4,
    "fashion_relu": 2,
    "fashion_sigmoid": 2,
}

# Short unrolls soon give an optimizer that is fast and stops early. Longer
# ones, in the end whole episodes, then make it continue.
_LONGER_UNROLLS = [
    {
        "unroll_length": 50,
        "meta_learning_rate": 0.001,
        "meta_steps": 1200,
        "sampled_coordinates": 2048,
        "validation_interval": 250,
        "validation_episodes": 48,
    },
    {
        "unroll_length": 100,
        "meta_batch_size": 2,
        "meta_learning_rate": 0.001,
        "meta_steps": 700,
        "sampled_coordinates": 2048,
        "validation_interval": 100,
        "validation_episodes": 48,
    },
]
_CONV = {"rule": "lstm_conv"}
_CONV_STAGES = [
    {
        "horizon": 100,
        "meta_steps": 5000,
        "validation_interval": 500,
        "validation_episodes": 32,
    },
    {
        "horizon": 1000,
        "unroll_length": 100,
        "meta_learning_rate": 0.001,
        "meta_steps": 3000,
        "sampled_coordinates": 512,
        "validation_interval": 500,
        "validation_episodes": 8,
    },
]

# Horizons are the paper's, and so are the unroll lengths of first stages; it
# does not tell meta-batches and numbers of meta-steps.
EXPERIMENTS = {
    "quadratics": Experiment(
        flags={
            "task": "quadratics",
            "rule": "lstm_raw",
            "meta_batch_size": 8,
            "meta_steps": 2000,
        },
        tests={"base": Test("quadratics", seeds=200, tuning_seeds=100)},
    ),
    "mnist": Experiment(
        flags={"task": "mlp", "dataset": "mnist", "rule": "lstm"},
        tests={
            # Many: a loss is that of one batch, and as noisy.
            "base": Test("mlp", seeds=800),
            "200_steps": Test("mlp", horizon=200, seeds=400),
            "40_units": Test("mlp_40_units", seeds=800),
            "2_layers": Test("mlp_2_layers", seeds=400),
            "relu": Test("mlp_relu", seeds=400),
        },
        stages=[{}, *_LONGER_UNROLLS],
    ),
    "cifar10": Experiment(
        flags={"task": "conv", "dataset": "cifar10", **_CONV},
        tests=_conv_tests("conv"),
        stages=_CONV_STAGES,
    ),
    # LSTM-sub: of the labels that it is tested on it has seen none.
    "cifar10_sub": Experiment(
        flags={"task": "conv_sub", "dataset": "cifar10", **_CONV},
        tests=_conv_tests("conv"),
        stages=_CONV_STAGES,
    ),
    # The same on photographs that need no download, with a smaller network.
    "patches": Experiment(
        flags={"task": "small_conv", "dataset": "l2l_patches", **_CONV},
        tests=_conv_tests("small_conv"),
        stages=_CONV_STAGES,
    ),
    "patches_sub": Experiment(
        flags={"task": "small_conv_sub", "dataset": "l2l_patches", **_CONV},
        tests=_conv_tests("small_conv"),
        stages=_CONV_STAGES,
    ),
    "neural_art": Experiment(
        flags={
            "task": "neural_art",
            "dataset": "l2l_patches/64",
            # Not the paper's LSTM: see docs/results/style_transfer.md.
            "rule": "rnnprop_large",
            "horizon": 128,
            "unroll_length": 32,
            "sampled_coordinates": 1024,
            # Without a teacher, steps are as small as pays within an unroll.
            "estimator": "imitation",
            "teacher": "adam",
            "teacher_learning_rate": 0.178,
            "imitation_weight": 10000.0,
            "validation_interval": 50,
            "validation_episodes": 5,
        },
        stages=[
            # A quarter of the pixels: VGG19 takes most of the time.
            {"dataset": "l2l_patches/32", "meta_steps": 300},
            {"meta_learning_rate": 0.002, "meta_steps": 150},
        ],
        tests={
            "base": _art(seeds=10, tuning_seeds=6),
            # Fewer of the images: a transfer, and then four times the pixels.
            "style_2": _art("neural_art_style_2", seeds=10),
            "128x128": _art(seeds=5, tuning_seeds=1, dataset="l2l_patches/128"),
        },
        quick={"dataset": "l2l_patches/32"},
    ),
    # Not the paper's: an optimizer for full training runs of held-out networks.
    # It needs Fashion-MNIST, and digits and text that ship with packages.
    "long": Experiment(
        flags={
            "task": "networks",
            "validation_task": "networks_valid",
            "rule": "mlp",
            "horizon": 10_000,
            "log_uniform_horizons": True,
            # Shorter ones teach that steps get small too soon.
            "unroll_length": 2500,
            "loss_weights": "log",
            "compile_unroll": True,
            "meta_batch_size": 11,
            "meta_episode_clipnorm": 1.0,
            "meta_learning_rate": 0.001,
            "meta_steps": 60,
            "validation_interval": 15,
            "validation_episodes": 7,
        },
        tests=_long_tests(),
        # One network that needs no download.
        quick={
            "task": "mlp",
            "validation_task": None,
            "meta_batch_size": 1,
            "compile_unroll": False,
        },
    ),
    "default": Experiment(
        flags={
            "task": "varied",
            "validation_task": "varied_valid",
            "rule": "momentum_mixture",
            "horizon": 2000,
            "log_uniform_horizons": True,
            "untold_lengths": 0.25,
            "estimator": "single_es",
            "unroll_length": 100,
            "pairs": 2,
            "stddev": 0.1,
            "held_out": True,
            "last_weight": 10.0,
            "loss_weights": "log",
            "compile_unroll": True,
            "meta_batch_size": 19,
            "meta_episode_clipnorm": 10.0,
            "meta_learning_rate": 0.005,
            "meta_steps": 2000,
            "validation_interval": 250,
            "validation_episodes": 16,
        },
        tests=_long_tests(),
        # One network that needs no download, and has no examples to hold out.
        quick={
            "task": "mlp",
            "validation_task": None,
            "held_out": False,
            "meta_batch_size": 1,
            "compile_unroll": False,
        },
    ),
}

# What --quick makes of an experiment and of its first test, which is the only
# one then: little work, and no results. Episodes are of four unrolls at most.
QUICK = {"meta_steps": 10, "validation_episodes": 2}
QUICK_UNROLL_LENGTH, QUICK_UNROLLS = 20, 4
QUICK_TEST = {
    "horizon": 10,
    "seeds": 2,
    "tuning_seeds": 1,
    "block": 1,
    "baselines": None,
}
