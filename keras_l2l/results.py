"""Statistics of training curves over seeds, and their table."""

import numpy as np
import scipy.stats

# What an optimizer is judged by: losses [..., horizon] -> [...].
CRITERIA = {
    "mean_loss": lambda losses: np.mean(losses, axis=-1),
    "final_loss": lambda losses: losses[..., -1],
}


def summarize(curves, metrics=()):
    """Summarizes the training curves of one optimizer over seeds.

    Args:
        curves: Array `[seeds, horizon]`, as from `training_curves`, or of
            means over blocks of steps.
        metrics: For each seed a dict from names to floats, or nothing.

    Returns:
        Dict with `losses` (the mean curve, a list of as many floats, the
        first after one update), `losses_ci95` (a pair of lists), and for each
        of `CRITERIA`: its mean over the seeds, `NAME_median`, and `NAME_ci95`
        (`[low, high]`: 95 % bootstrap intervals of the mean); the same for
        each of the metrics.
    """
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


def format_table(evaluation):
    """Returns an evaluation's results as an aligned table of text."""
    digits = {"mean_loss": 4, "final_loss": 5}
    # Baselines of an earlier evaluation may lack metrics.
    known = set.intersection(*map(set, evaluation["results"]))
    for name in sorted(known - {"losses"}):
        if f"{name}_ci95" in known:
            digits.setdefault(name, 4)
    titles = [f"{name.replace('_', ' ')} [95 %]" for name in digits]
    rows = [("optimizer", "rate", *titles)]
    for result in evaluation["results"]:
        rows.append(
            (
                result["optimizer"],
                f"{result['learning_rate']:g}",
                *(_with_interval(result, n, d) for n, d in digits.items()),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _with_interval(result, name, digits):
    values = (result[name], *result[f"{name}_ci95"])
    # From JSON, what is not finite comes back as None.
    values = [np.nan if v is None else v for v in values]
    if not np.isfinite(values[0]):
        return "diverges"
    value, low, high = (f"{v:.{digits}f}" for v in values)
    return f"{value} [{low}, {high}]"


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
