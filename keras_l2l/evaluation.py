"""Training curves of any Keras optimizer on any task, by one path.

Learned or hand-designed, tuned or not, reported or only searched over: every
number about an optimizer comes out of `training_curves`.
"""

import functools
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_l2l import checks
from keras_l2l import runs
from keras_l2l.results import CRITERIA
from keras_l2l.results import summarize
from keras_l2l.tasks.base import check_task
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

    Raises:
        ValueError: if an argument is of a wrong type or out of its range.
    """
    trained = _train(make_optimizer, task, horizon, split, seeds)
    return np.stack([losses for losses, _ in trained])


def final_params(make_optimizer, task, horizon, split, seeds):
    """Returns what `training_curves` trains: for each seed its parameters.

    Args and Raises: as there.

    Returns:
        List, for each seed a list of arrays.
    """
    trained = _train(make_optimizer, task, horizon, split, seeds)
    return [params for _, params in trained]


def _train(make_optimizer, task, horizon, split, seeds):
    """Yields the losses and the final parameters of each seed's optimizee."""
    check_task(task)
    checks.require_int("horizon", horizon)
    if len(seeds) == 0:
        raise ValueError(f"There must be seeds. Received: seeds={seeds!r}")
    _require_function(make_optimizer)
    seeds = [tf.constant(split_seed(split, int(s)), tf.int64) for s in seeds]
    variables = task.variables()
    optimizer = make_optimizer()
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "`make_optimizer` must return a new keras.optimizers.Optimizer. "
            f"Received: {optimizer!r}"
        )
    optimizer.build(variables)
    start = [v.numpy() for v in optimizer.variables]

    @tf.function(autograph=False)
    def run(seed, non_trainable):
        episode_task = task.sample(seed)
        batches = episode_task.batches(split, seed)

        def stateful_loss(step, non_trainable):
            return episode_task.stateful_loss(
                [v.value for v in variables], non_trainable, batches(step)
            )

        def body(step, losses, non_trainable):
            with tf.GradientTape() as tape:
                loss, non_trainable = stateful_loss(step, non_trainable)
            gradients = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(gradients, variables)
            losses = losses.write(tf.cast(step, tf.int32), loss)
            return step + 1, losses, non_trainable

        losses = tf.TensorArray(variables[0].dtype, horizon, element_shape=[])
        step, losses, non_trainable = tf.while_loop(
            lambda step, *_: step < horizon,
            body,
            (tf.constant(0, tf.int64), losses, non_trainable),
        )
        # The loop saw the losses before each update: shift them by one step.
        last, _ = stateful_loss(step, non_trainable)
        return tf.concat([losses.stack()[1:], last[None]], axis=0)

    # Each optimizer has its own: nothing to warn of.
    run._omit_frequent_tracing_warning = True
    for seed in seeds:
        episode_task = task.sample(seed)
        for v, value in zip(
            variables, episode_task.init_params(seed), strict=True
        ):
            v.assign(value)
        for v, value in zip(optimizer.variables, start, strict=True):
            v.assign(value)
        losses = run(seed, episode_task.init_non_trainable(seed))
        yield losses.numpy(), [v.numpy() for v in variables]


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
    _require_function(make_optimizer)
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
        JSON-able dict; the entries of `"results"` are described at
        `keras_l2l.results.summarize`.

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
            "learning_rate": float(learned().learning_rate),
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


def _require_function(make_optimizer):
    if not callable(make_optimizer):
        raise ValueError(
            "`make_optimizer` must be a function that returns a new "
            "keras.optimizers.Optimizer, or a class of them. Received: "
            f"{make_optimizer!r}. Pass lambda: keras.optimizers.Adam(0.01), "
            "for example."
        )
