"""The paper's experiments, as data: one place for all of their settings."""

import typing


class Test(typing.NamedTuple):
    """An evaluation of what was meta-trained.

    Attributes:
        task: String, a name in `train.registry.TASKS`.
        horizon: Int, inner steps.
        seeds: Int, optimizees reported.
        tuning_seeds: Int, optimizees that the baselines are tuned on.
    """

    task: str
    horizon: int = 100
    seeds: int = 20
    tuning_seeds: int = 10


class Experiment(typing.NamedTuple):
    """What is meta-trained, and what it is tested on.

    Attributes:
        flags: Dict, values of `train.meta_train`'s flags that are not given.
        tests: Dict from a name to a `Test`.
    """

    flags: dict
    tests: dict


# Horizons and unroll lengths are the paper's; it does not tell meta-batches
# and numbers of meta-steps.
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
            "base": Test("mlp"),
            "200_steps": Test("mlp", horizon=200),
            "40_units": Test("mlp_40_units"),
            "2_layers": Test("mlp_2_layers"),
            "relu": Test("mlp_relu"),
        },
    ),
}

# What --quick makes of an experiment: two minutes, and no results.
QUICK = {"meta_steps": 20}
QUICK_TEST = {"seeds": 2, "tuning_seeds": 1}
