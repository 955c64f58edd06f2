"""Training curves of any Keras optimizer on any task, by one path.

Learned or hand-designed, tuned or not, reported or only searched over: every
number about an optimizer comes out of `training_curves`.
"""

import functools
import warnings

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from keras_l2l import runs
from keras_l2l.tasks.base import split_seed

# The paper's baselines, each a function of the learning rate.
BASELINES = {
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "nag": functools.partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
}
# Four decades, four values in each.
LEARNING_RATES = tuple(float(f"{10 ** (k / 4):.3g}") for k in range(-12, 5))
# What a learning rate can be tuned for: losses [..., horizon] -> [...].
CRITERIA = {
    "mean_loss": lambda losses: np.mean(losses, axis=-1),
    "final_loss": lambda losses: losses[..., -1],
}


def training_curve(make_optimizer, task, horizon, split, seed):
    """Returns one training curve; see `training_curves`."""
    return training_curves(make_optimizer, task, horizon, split, [seed])[0]


def training_curves(make_optimizer, task, horizon, split, seeds):
    """Trains fresh optimizees with one optimizer and returns their losses.

    Args:
        make_optimizer: Function without arguments that returns a new
            `keras.optimizers.Optimizer`.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps.
        split: One of `keras_l2l.tasks.SPLITS`.
        seeds: Ints; each is one optimizee, with the same initialization and
            batches for every optimizer. The optimizer starts anew for each.

    Returns:
        Array of shape `[len(seeds), horizon]`; entry `t` is the loss after
        `t + 1` updates, on the batch that the next update would use.
    """
    seeds = [tf.constant(split_seed(split, int(s)), tf.int64) for s in seeds]
    params = task.sample(seeds[0]).init_params(seeds[0])
    variables = [keras.Variable(p) for p in params]
    optimizer = make_optimizer()
    optimizer.build(variables)
    start = [v.numpy() for v in optimizer.variables]

    @tf.function
    def run(seed, non_trainable):
        episode_task = task.sample(seed)
        batches = episode_task.batches(split, seed)
        losses = tf.TensorArray(variables[0].dtype, horizon, element_shape=[])
        for step in tf.range(horizon, dtype=tf.int64):
            with tf.GradientTape() as tape:
                loss, non_trainable = episode_task.stateful_loss(
                    [v.value for v in variables], non_trainable, batches(step)
                )
            gradients = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(gradients, variables)
            if step > 0:
                losses = losses.write(tf.cast(step, tf.int32) - 1, loss)
        loss, _ = episode_task.stateful_loss(
            [v.value for v in variables],
            non_trainable,
            batches(tf.constant(horizon, tf.int64)),
        )
        return losses.write(horizon - 1, loss).stack()

    curves = []
    for seed in seeds:
        episode_task = task.sample(seed)
        for v, value in zip(
            variables, episode_task.init_params(seed), strict=True
        ):
            v.assign(value)
        for v, value in zip(optimizer.variables, start, strict=True):
            v.assign(value)
        curves.append(run(seed, episode_task.init_non_trainable(seed)).numpy())
    return np.stack(curves)


def tune_learning_rate(
    make_optimizer,
    task,
    horizon,
    split="meta_valid",
    seeds=range(10),
    learning_rates=LEARNING_RATES,
):
    """Finds the best learning rate for each of `CRITERIA`.

    Args:
        make_optimizer: Function learning rate -> new optimizer.
        task, horizon, split, seeds: as in `training_curves`. Tune on seeds
            or a split that you do not report.
        learning_rates: Floats.

    Returns:
        Dict from each criterion to the learning rate with the lowest mean of
        it over the seeds. A rate that diverges on any seed is never the best.
        Warns if the best is the first or last of the grid, since a better one
        may then lie outside.

    Raises:
        ValueError: if every learning rate diverges.
    """
    curves = np.stack(
        [
            training_curves(
                functools.partial(make_optimizer, rate),
                task,
                horizon,
                split,
                seeds,
            )
            for rate in learning_rates
        ]
    )
    best = {}
    for criterion, score in CRITERIA.items():
        scores = np.nan_to_num(np.mean(score(curves), axis=1), nan=np.inf)
        index = int(np.argmin(scores))
        if not np.isfinite(scores[index]):
            raise ValueError(
                "At least one learning rate must not diverge. Received: "
                f"learning_rates={list(learning_rates)}. Add smaller ones."
            )
        if index in (0, len(scores) - 1):
            warnings.warn(
                f"The best learning rate for {criterion}, "
                f"{learning_rates[index]}, is at the edge of the grid: a "
                "better one may lie outside. Widen `learning_rates`.",
                stacklevel=2,
            )
        best[criterion] = learning_rates[index]
    return best


def evaluate(
    learned,
    task,
    horizon,
    split="test",
    seeds=range(20),
    tuning_split="meta_valid",
    tuning_seeds=range(10),
    learning_rates=LEARNING_RATES,
    baselines=None,
):
    """Compares a learned optimizer with tuned baselines on one task.

    Args:
        learned: Function without arguments that returns a new learned
            optimizer; nothing about it is tuned here.
        task: `Task` or `TaskFamily`.
        horizon: Int, inner steps.
        split, seeds: what is reported.
        tuning_split, tuning_seeds: what the baselines are tuned on, for each
            of `CRITERIA` separately.
        learning_rates: Floats, the grid.
        baselines: Dict from name to a function learning rate -> optimizer;
            defaults to `BASELINES`.

    Returns:
        JSON-able dict; see `summarize` for the entries of `"results"`.

    Raises:
        ValueError: if the baselines would be tuned on what is reported.
    """
    if split == tuning_split and set(seeds) & set(tuning_seeds):
        raise ValueError(
            "Baselines must be tuned on seeds that are not reported. "
            f"Received: {sorted(set(seeds) & set(tuning_seeds))} in both, on "
            f"the split {split!r}. Use another tuning split or other seeds."
        )
    results = [
        {
            "optimizer": "learned",
            "learning_rate": None,
            "tuned_for": None,
            **summarize(training_curves(learned, task, horizon, split, seeds)),
        }
    ]
    for name, make_optimizer in (baselines or BASELINES).items():
        best = tune_learning_rate(
            make_optimizer,
            task,
            horizon,
            tuning_split,
            tuning_seeds,
            learning_rates,
        )
        # One entry per learning rate: both criteria may choose the same.
        for rate in dict.fromkeys(best.values()):
            curves = training_curves(
                functools.partial(make_optimizer, rate),
                task,
                horizon,
                split,
                seeds,
            )
            results.append(
                {
                    "optimizer": name,
                    "learning_rate": rate,
                    "tuned_for": [c for c in best if best[c] == rate],
                    **summarize(curves),
                }
            )
    return {
        "task": task.name,
        "task_config": task.get_config(),
        "horizon": horizon,
        "split": split,
        "seeds": list(seeds),
        "tuning_split": tuning_split,
        "tuning_seeds": list(tuning_seeds),
        "learning_rates": list(learning_rates),
        "versions": runs.versions(),
        "results": results,
    }


def summarize(curves):
    """Summarizes the training curves of one optimizer over seeds.

    Args:
        curves: Array `[seeds, horizon]`, as from `training_curves`.

    Returns:
        Dict with `losses` (the mean curve, a list of `horizon` floats, the
        first after one update), `losses_ci95` (a pair of lists), and for each
        of `CRITERIA`: its mean over the seeds, `NAME_median`, and `NAME_ci95`
        (`[low, high]`: 95 % bootstrap intervals of the mean).
    """
    summary = {}
    for name, score in CRITERIA.items():
        values = score(curves)
        summary[name] = float(np.mean(values))
        summary[f"{name}_median"] = float(np.median(values))
        summary[f"{name}_ci95"] = [float(b) for b in _mean_ci95(values)]
    summary["losses"] = np.mean(curves, axis=0).tolist()
    summary["losses_ci95"] = [b.tolist() for b in _mean_ci95(curves)]
    return summary


def format_table(evaluation):
    """Returns an evaluation's results as an aligned table of text."""
    rows = [("optimizer", "learning rate", "mean loss", "final loss [95 %]")]
    for result in evaluation["results"]:
        rate = result["learning_rate"]
        low, high = result["final_loss_ci95"]
        rows.append(
            (
                result["optimizer"],
                "-" if rate is None else f"{rate:g}",
                f"{result['mean_loss']:.4f}",
                f"{result['final_loss']:.5f} [{low:.5f}, {high:.5f}]",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _mean_ci95(values):
    """Returns the bounds of the mean over axis 0; nan for one seed."""
    if len(values) < 2:
        return np.full((2, *values.shape[1:]), np.nan)
    result = scipy.stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return result.confidence_interval
