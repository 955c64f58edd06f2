"""Training curves of Keras optimizers on tasks, and their comparison.

Every number about an optimizer comes from `Trainer`, whether the optimizer is
learned or hand-designed, and whether the number is reported or used in tuning.
"""

import functools
import json
import typing
import warnings
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np

from keras_l2l.evaluation.summary import CRITERIA
from keras_l2l.evaluation.summary import summarize
from keras_l2l.evaluation.trainer import Trainer
from keras_l2l.evaluation.trainer import require_function
from keras_l2l.tasks.base import TaskFamily
from keras_l2l.utils import checks
from keras_l2l.utils import files
from keras_l2l.utils.descriptions import json_able
from keras_l2l.utils.divergence import inf_if_diverged
from keras_l2l.utils.versions import versions

# The paper's baselines, each a function of the learning rate.
BASELINES = {
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "nag": functools.partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
}
# Reported without tuning.
UNTUNED = {"adam_default": keras.optimizers.Adam}
# Four decades with four values each.
LEARNING_RATES = tuple(float(f"{10 ** (k / 4):.3g}") for k in range(-12, 5))


def training_curve(
    make_optimizer: Callable[[], keras.optimizers.Optimizer],
    task: TaskFamily,
    horizon: int,
    split: str,
    seed: int,
) -> np.ndarray:
    """Returns the training curve of one seed; see `training_curves`."""
    return training_curves(make_optimizer, task, horizon, split, [seed])[0]


def training_curves(
    make_optimizer: Callable[[], keras.optimizers.Optimizer],
    task: TaskFamily,
    horizon: int,
    split: str,
    seeds: Sequence[int],
) -> np.ndarray:
    """Returns the training curves of an optimizer, one for each seed.

    Args:
        make_optimizer: Function without arguments that returns a new
            `keras.optimizers.Optimizer`.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps.
        split: One of `keras_l2l.tasks.SPLITS`.
        seeds: Ints. Each stands for one initialization and sequence of
            batches, the same for every optimizer. The optimizer starts afresh
            for each.

    Returns:
        Array of shape `[len(seeds), horizon]`. Entry `t` is the loss after
        `t + 1` updates, on the batch that the next update would use.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.
    """
    return Trainer(task, horizon).curves(make_optimizer, split, seeds)


def final_params(
    make_optimizer: Callable[[], keras.optimizers.Optimizer],
    task: TaskFamily,
    horizon: int,
    split: str,
    seeds: Sequence[int],
) -> list[list[np.ndarray]]:
    """Returns the trained parameters for each seed.

    Args:
        make_optimizer, task, horizon, split, seeds: As in `training_curves`.

    Returns:
        List with a list of arrays for each seed.

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.
    """
    trained = Trainer(task, horizon).train(make_optimizer, split, seeds)
    return [one.params for one in trained]


def tune_learning_rate(
    make_optimizer: Callable[[float], keras.optimizers.Optimizer],
    task: TaskFamily,
    horizon: int,
    split: str = "meta_valid",
    seeds: Sequence[int] = range(10),
    learning_rates: Sequence[float] = LEARNING_RATES,
) -> dict[str, float]:
    """Finds the best learning rate for each of `CRITERIA`.

    Warns if the best rate is the first or the last of the grid, since a better
    one may lie outside.

    Args:
        make_optimizer: Function from a learning rate to a new optimizer.
        task, horizon, split, seeds: As in `training_curves`. Tune on seeds or
            a split that you do not report.
        learning_rates: Floats.

    Returns:
        Dict from each criterion to the learning rate with its lowest mean over
        the seeds. A rate that diverges on any seed is never the best.

    Raises:
        ValueError: if every learning rate diverges.
    """
    return _tune(
        Trainer(task, horizon), make_optimizer, split, seeds, learning_rates
    )


def _tune(trainer, make_optimizer, split, seeds, learning_rates, whose=""):
    """Computes `tune_learning_rate` with a `Trainer`."""
    require_function(make_optimizer)
    curves = np.stack(
        [
            trainer.curves(
                functools.partial(make_optimizer, rate), split, seeds
            )
            for rate in learning_rates
        ]
    )
    best = {}
    for criterion, score in CRITERIA.items():
        scores = np.mean(score(inf_if_diverged(curves)), axis=1)
        index = int(np.argmin(scores))
        if not np.isfinite(scores[index]):
            raise ValueError(
                "At least one learning rate must not diverge. Received: "
                f"learning_rates={checks.shown(list(learning_rates))}. Add "
                "smaller ones."
            )
        if index in (0, len(scores) - 1):
            warnings.warn(
                f"The best learning rate{whose} for {criterion}, "
                f"{learning_rates[index]}, is at the edge of the grid: a "
                "better one may lie outside. Widen `learning_rates`.",
                stacklevel=3,
            )
        best[criterion] = learning_rates[index]
    return best


def evaluate(
    learned: Callable[[], keras.optimizers.Optimizer]
    | dict[str, Callable[[], keras.optimizers.Optimizer]],
    task: TaskFamily,
    horizon: int,
    split: str = "test",
    seeds: Sequence[int] = range(20),
    tuning_split: str = "meta_valid",
    tuning_seeds: Sequence[int] = range(10),
    learning_rates: Sequence[float] = LEARNING_RATES,
    baselines: dict[str, Callable[[float], keras.optimizers.Optimizer]]
    | None = None,
    earlier: dict[str, typing.Any] | None = None,
    block: int = 1,
    verbose: int = 0,
) -> dict[str, typing.Any]:
    """Compares learned optimizers with tuned baselines on one task.

    Args:
        learned: Function without arguments that returns a new learned
            optimizer, or a dict from names to such functions. Learned
            optimizers are not tuned.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps.
        split, seeds: Split and seeds of the reported training runs. The default
            split was not used in meta-training. On `"train"`, models have
            more data, and metrics are those of the test data.
        tuning_split, tuning_seeds: Split and seeds on which the baselines are
            tuned, for each of `CRITERIA` separately.
        learning_rates: Floats, the grid.
        baselines: Dict from names to functions from a learning rate to an
            optimizer. Defaults to `BASELINES`. Keras' Adam at its default
            learning rate is always reported as well.
        earlier: Dict that this function returned for another learned
            optimizer, with the same arguments and versions otherwise, except
            for the commit. Its results of the baselines are used, since
            computing them takes most of the time.
        block: Int, a divisor of `horizon`. Losses are means over this number
            of steps, and the final loss is the last of them, since the loss of
            a single batch is noisy.
        verbose: 0 for silence, 1 for a progress bar of training runs.

    Returns:
        JSON-able dict. Its `"results"` are a list of dicts as from
        `keras_l2l.evaluation.summary.summarize`, with the task's `metrics` on
        a split that was not trained on, such as `"test_accuracy"`. With
        `earlier`, its versions are the `"baselines_versions"`.

    Raises:
        ValueError: if the baselines would be tuned on reported runs, or
            `earlier` is of another comparison.
    """
    seeds = checks.require_seeds("seeds", seeds)
    tuning_seeds = checks.require_seeds("tuning_seeds", tuning_seeds)
    if split == tuning_split:
        _require_other(seeds, tuning_seeds, split)
    if not isinstance(learned, dict):
        learned = {"learned": learned}
    for name, make in learned.items():
        require_function(make, name)
    if baselines is None:
        baselines = BASELINES
    kept = [] if earlier is None else earlier["results"]
    kept = [r for r in kept if r["tuned_for"] is not None]
    untuned = set(UNTUNED) - {r["optimizer"] for r in kept}
    untuned = {name: UNTUNED[name] for name in sorted(untuned)}
    of_baseline = len(learning_rates) * len(tuning_seeds)
    of_baseline += len(CRITERIA) * len(seeds)
    progress = keras.utils.Progbar(
        (len(learned) + len(untuned)) * len(seeds)
        + (0 if earlier else len(baselines) * of_baseline),
        verbose=verbose,
        unit_name="optimizee",
    )
    trainer = Trainer(task, horizon, block, progress)
    comparison = {
        "task": task.name,
        "task_config": json_able(task.get_config()),
        "horizon": horizon,
        "split": split,
        "seeds": seeds,
        "tuning_split": tuning_split,
        "tuning_seeds": tuning_seeds,
        "learning_rates": list(learning_rates),
        **({} if block == 1 else {"block": block}),
        "versions": versions(),
    }
    if earlier is not None:
        _require_same(earlier, comparison)
    results = [
        {
            "optimizer": name,
            "learning_rate": float(make().learning_rate),
            "tuned_for": tuned_for,
            **summarize(*trainer.results(make, split, seeds)),
        }
        for makers, tuned_for in ((learned, None), (untuned, []))
        for name, make in makers.items()
    ]
    if earlier is None:
        results += _baseline_results(trainer, baselines, comparison, progress)
        return {**comparison, "results": results}
    return {
        **comparison,
        "baselines_versions": earlier.get(
            "baselines_versions", earlier["versions"]
        ),
        "results": results + kept,
    }


def _require_other(seeds, tuning_seeds, split):
    both = sorted(set(seeds) & set(tuning_seeds))
    if both:
        raise ValueError(
            "Baselines must be tuned on seeds that are not reported. "
            f"Received: {checks.shown(both)} in both, on the split {split!r}. "
            "Use another tuning split or other seeds."
        )


def _baseline_results(trainer, baselines, comparison, progress):
    """Tunes the baselines, and returns the entries of their results."""
    results = []
    for name, make_optimizer in baselines.items():
        best = _tune(
            trainer,
            make_optimizer,
            comparison["tuning_split"],
            comparison["tuning_seeds"],
            comparison["learning_rates"],
            f" of {name}",
        )
        # One entry per learning rate: both criteria may choose the same.
        rates = dict.fromkeys(best.values())
        progress.add((len(best) - len(rates)) * len(comparison["seeds"]))
        for rate in rates:
            found = trainer.results(
                functools.partial(make_optimizer, rate),
                comparison["split"],
                comparison["seeds"],
            )
            results.append(
                {
                    "optimizer": name,
                    "learning_rate": rate,
                    "tuned_for": [c for c in best if best[c] == rate],
                    **summarize(*found),
                }
            )
    return results


def _require_same(earlier, comparison):
    """Raises ValueError unless the baselines of `earlier` can be used."""
    # In the form in which they are read from a file.
    comparison = json.loads(files.to_json(comparison))
    comparison.setdefault("block", 1)
    received = {name: earlier.get(name) for name in comparison}
    received["block"] = earlier.get("block", 1)
    for one in (comparison, received):
        one["versions"] = {**(one["versions"] or {}), "commit": None}
    different = [
        f"{name}: {received[name]} -> {value}"
        for name, value in comparison.items()
        if received[name] != value
    ]
    if different:
        raise ValueError(
            "An earlier evaluation whose baselines are reused must have the "
            "same arguments. Received: "
            f"{checks.shortened('; '.join(different), 320)}. "
            "Evaluate without it."
        )
