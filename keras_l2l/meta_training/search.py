"""Random search over the meta-learning rate, as in the paper."""

import dataclasses
import os
import pathlib
import typing
from collections.abc import Sequence

import numpy as np

from keras_l2l import presets
from keras_l2l.meta_training.meta_train import meta_train
from keras_l2l.meta_training.options import MetaOptimizer
from keras_l2l.meta_training.watch import MetaTrainingError
from keras_l2l.rules import UpdateRule
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.utils import checks
from keras_l2l.utils import files
from keras_l2l.utils.divergence import inf_if_diverged

_LOWEST, _HIGHEST = 1e-4, 1e-1


def meta_search(
    rule: UpdateRule,
    task: TaskFamily | Sequence[TaskFamily],
    output_dir: str | os.PathLike[str],
    trials: int,
    seed: int = 0,
    meta_optimizer: MetaOptimizer = MetaOptimizer(),
    **arguments: typing.Any,
) -> dict[str, typing.Any]:
    """Meta-trains with several meta-learning rates and keeps the best result.

    Each is drawn log-uniformly from 0.0001 to 0.1, and judged by the lowest
    final loss of its validations. Writes to `output_dir` the runs `trial_I/`,
    the best one's `preset/`, and `search.json`. A search that was stopped
    continues when it is called again.

    Args:
        rule, task: As for `meta_train`.
        output_dir: Path of a folder.
        trials: Int, number of meta-learning rates.
        seed: Int >= 0, that of each run and of the draws.
        meta_optimizer: `MetaOptimizer`, whose learning rate is replaced.
        **arguments: Other arguments of `meta_train`.

    Returns:
        The content of `search.json`: a dict of `trials`, each with its
        `folder`, `meta_learning_rate` and `final_loss` (`None` if it
        diverged), the best first.

    Raises:
        FileExistsError: if the folder holds something else than a search.
        ValueError: as `meta_train` does.
        keras_l2l.meta_training.watch.MetaTrainingError: if all have diverged.
    """
    trials = checks.require_int("trials", trials)
    output_dir = pathlib.Path(output_dir)
    if not (output_dir / "trial_0").exists():
        files.require_empty(output_dir)
    draws = np.random.default_rng(seed).uniform(
        np.log(_LOWEST), np.log(_HIGHEST), trials
    )
    found = []
    for i, rate in enumerate(np.exp(draws)):
        # Three digits, to be repeated by hand.
        rate, folder = float(f"{rate:.3g}"), f"trial_{i}"
        try:
            result = meta_train(
                rule,
                task,
                output_dir / folder,
                meta_optimizer=dataclasses.replace(
                    meta_optimizer, learning_rate=rate
                ),
                seed=seed,
                resume=True,
                **arguments,
            )
            loss = _lowest(result.history)
        except MetaTrainingError:
            loss = np.inf
        found.append(
            {"folder": folder, "meta_learning_rate": rate, "final_loss": loss}
        )
    found.sort(key=lambda trial: trial["final_loss"])
    if not np.isfinite(found[0]["final_loss"]):
        raise MetaTrainingError(
            "One of the meta-learning rates must not diverge. Received: "
            f"{checks.shown(found)}. Try other arguments."
        )
    best = presets.load_preset(output_dir / found[0]["folder"] / "preset")
    presets.replace_preset(
        best.rule, best.meta_params, output_dir / "preset", best.horizon
    )
    content = {"trials": found}
    files.write_json(output_dir / "search.json", content)
    return content


def _lowest(history):
    losses = [entry["final_loss"] for entry in history["validation"]]
    return float(inf_if_diverged(losses).min())
