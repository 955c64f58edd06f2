"""Statistics of training curves over seeds, and tables of them."""

import typing
from collections.abc import Sequence

import numpy as np
import scipy.stats
import tabulate

from keras_l2l.utils.divergence import inf_if_diverged

# The criteria of comparisons, functions from losses [..., horizon] to [...].
CRITERIA = {
    "mean_loss": lambda losses: np.mean(losses, axis=-1),
    "final_loss": lambda losses: losses[..., -1],
}


def summarize(
    curves: np.ndarray, metrics: Sequence[dict[str, float]] = ()
) -> dict[str, typing.Any]:
    """Summarizes the training curves of one optimizer over seeds.

    Args:
        curves: Array `[seeds, horizon]` as from `training_curves`, or means
            over blocks of steps, `[seeds, blocks]`.
        metrics: List of dicts from names to floats, one for each seed, or
            empty.

    Returns:
        Dict of `losses` (the mean curve, a list of floats, the first after one
        update), `losses_ci95` (a pair of lists), and for each of `CRITERIA`
        and of the metrics its mean over the seeds, `NAME_median`, and
        `NAME_ci95` (`[low, high]`, the 95 % interval of the mean by Student's
        t). If a seed has diverged, the mean is inf and its interval NaN.
    """
    curves = inf_if_diverged(curves)
    scores = {name: score(curves) for name, score in CRITERIA.items()}
    for name in metrics[0] if metrics else ():
        scores[name] = np.array([one[name] for one in metrics])
    summary = {}
    for name, values in scores.items():
        summary[name] = float(np.mean(values))
        summary[f"{name}_median"] = float(np.median(values))
        summary[f"{name}_ci95"] = [float(b) for b in _mean_ci95(values)]
    summary["losses"] = np.mean(curves, axis=0).tolist()
    summary["losses_ci95"] = [b.tolist() for b in _mean_ci95(curves)]
    return summary


def with_milestones(evaluation):
    """Returns the results of an evaluation, with milestones if it is long.

    These are, if there are blocks of steps, one of which ends at step 1000, and
    results of Adam tuned for the final loss: `loss_at_1000`, the mean loss of
    the block that ends there, its `_ci95`, and `steps_to_adam`, the end of the
    first block with a mean loss as low as the final loss of that Adam, or
    `None`.

    Args:
        evaluation: Dict as from `keras_l2l.evaluation.evaluate`.

    Returns:
        List of dicts.
    """
    results, block = evaluation["results"], evaluation.get("block")
    if "steps_to_adam" in results[0] or not block or 1000 % block:
        return results
    targets = [
        r["final_loss"]
        for r in results
        if r["optimizer"] == "adam" and "final_loss" in (r["tuned_for"] or ())
    ]
    if not targets or evaluation["horizon"] < 1000:
        return results
    target, found = inf_if_diverged(targets[0]), []
    for result in results:
        losses = inf_if_diverged(result["losses"])
        reached = np.flatnonzero(losses <= target) if target < np.inf else []
        found.append(
            {
                **result,
                "loss_at_1000": losses[1000 // block - 1],
                "loss_at_1000_ci95": [
                    bound[1000 // block - 1] for bound in result["losses_ci95"]
                ],
                "steps_to_adam": (
                    int(reached[0] + 1) * block if len(reached) else None
                ),
            }
        )
    return found


def thinned(losses):
    """Returns losses for a figure, in at most 399 points.

    Args:
        losses: Array `[..., steps]`. 400 or more steps are averaged over blocks
            of a two-hundredth of them.
    """
    losses = np.array(losses, dtype=float)
    return block_means(losses, max(losses.shape[-1] // 200, 1))


def block_means(values, block):
    """Returns means over blocks of `block` entries along the last axis."""
    whole = values.shape[-1] // block * block
    blocks = values[..., :whole].reshape(*values.shape[:-1], -1, block)
    return blocks.mean(axis=-1)


def format_table(evaluation: dict[str, typing.Any]) -> str:
    """Returns the results of an evaluation as an aligned table of text."""
    results = with_milestones(evaluation)
    if "steps_to_adam" in results[0]:
        # Losses at the end of a long training can be tiny.
        formats = {"loss_at_1000": ".3g", "final_loss": ".3g"}
        return _format_table(results, formats, "steps_to_adam")
    formats = {"mean_loss": ".4f", "final_loss": ".5f"}
    return _format_table(results, formats)


def format_summary(evaluations):
    """Returns long evaluations of several tasks as one table of text.

    Args:
        evaluations: Dict from names to evaluations for which `with_milestones`
            has them, each of one learned optimizer.

    Returns:
        String, a table with two rows per evaluation, for step 1000 and for the
        end. They have the losses of the learned optimizer, of the best tuned
        Adam, and of Adam at its default learning rate. The second row has the
        steps in which the learned optimizer reached the final loss of Adam.
    """
    rows = [
        (
            *("task", "step", "learned [95 %]", "adam, tuned [95 %]"),
            *("adam, default [95 %]", "steps to tuned adam"),
        )
    ]
    for name, evaluation in evaluations.items():
        results = with_milestones(evaluation)
        learned = next(r for r in results if r["tuned_for"] is None)
        default = next(r for r in results if r["tuned_for"] == [])
        adams = [r for r in results if r["optimizer"] == "adam"]
        for at, key, steps in (
            (1000, "loss_at_1000", ""),
            (evaluation["horizon"], "final_loss", learned["steps_to_adam"]),
        ):
            tuned = min(adams, key=lambda r, key=key: inf_if_diverged(r[key]))
            shown = (
                with_interval(r, key, ".3g") for r in (learned, tuned, default)
            )
            cell = "-" if steps is None else str(steps)
            rows.append((name, str(at), *shown, cell))
    return aligned(rows)


def _format_table(results, formats, last=None):
    # Baselines of an earlier evaluation may lack metrics.
    known = set.intersection(*map(set, results))
    for name in sorted(known - {"losses"}):
        if f"{name}_ci95" in known and not (last and name == "mean_loss"):
            formats.setdefault(name, ".4f")
    titles = [f"{name.replace('_', ' ')} [95 %]" for name in formats]
    rows = [("optimizer", "rate", *titles)]
    for result in results:
        rows.append(
            (
                result["optimizer"],
                f"{result['learning_rate']:g}",
                *(with_interval(result, n, f) for n, f in formats.items()),
            )
        )
    if last is not None:
        cells = [last.replace("_", " "), *(r[last] or "-" for r in results)]
        rows = [
            (*row, str(cell)) for row, cell in zip(rows, cells, strict=True)
        ]
    return aligned(rows)


def aligned(rows):
    """Returns rows of strings as an aligned table of text."""
    return tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True)


def with_interval(result, name, form):
    """Returns a number of a result with its 95 % interval, a string.

    Args:
        result: Dict as from `summarize`.
        name: String, its key.
        form: String, a format of floats.
    """
    if np.isinf(inf_if_diverged(result[name])):
        return "diverges"
    # JSON has None for values that are not finite.
    values = np.array([result[name], *result[f"{name}_ci95"]], dtype=float)
    value, low, high = (format(v, form) for v in values)
    # One seed has no interval.
    return value if np.isnan(values[1]) else f"{value} [{low}, {high}]"


def half_ci95(values):
    """Returns half of the 95 % interval of the mean over axis 0.

    By Student's t: resampling three seeds would cover the mean three times in
    four. It is NaN for a single seed, and where a seed has diverged.
    """
    values, number = np.asarray(values, dtype=float), len(values)
    half = np.full(values.shape[1:], np.nan)
    finite = np.isfinite(values).all(axis=0)
    if number > 1:
        factor = scipy.stats.t.ppf(0.975, number - 1) / np.sqrt(number)
        half[finite] = factor * np.std(values[:, finite], axis=0, ddof=1)
    return half


def _mean_ci95(values):
    """Returns the bounds of the 95 % interval of the mean over axis 0."""
    half = half_ci95(values)
    # Where a seed has diverged there are none.
    mean = np.where(np.isnan(half), np.nan, np.mean(values, axis=0))
    return np.stack([mean - half, mean + half])
