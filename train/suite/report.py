"""Statistics and tables of `train.suite`."""

import numpy as np
import tabulate

from keras_l2l.evaluation.summary import half_ci95
from keras_l2l.utils.divergence import inf_if_diverged
from train.suite import opponents

LEARNED = "default"
WITHOUT_LENGTH = "default without length"
ADAM = "adam"
ADAMW_BEST = "adamw best"
# How many percent above an opponent are listed.
_LIMIT, _LIMITS = 3, {ADAM: 2}
_RATES = [f"adamw {rate}" for rate in opponents.ADAMW_RATES]

# Titles of tables, with the column of a row and the column of its interval.
_TABLES = {
    "Validation loss at the end, mean and half of the 95 % interval": (
        "valid_loss",
        "valid_loss_ci95",
    ),
    "Metric of the validation data at the end": ("metric", "metric_ci95"),
    "Training loss at the end, a mean of the last twentieth": (
        "train_loss",
        "train_loss_ci95",
    ),
    "Lowest validation loss on the way": ("best_valid_loss", None),
    "Milliseconds a step, of the fastest run": ("ms_per_step", None),
    "Seconds of training to the validation loss that adam ends with": (
        "seconds_to_adam",
        None,
    ),
    "Steps to it": ("steps_to_adam", None),
}


def summarize(runs):
    """Returns the statistics of all runs, a list of dicts.

    Args:
        runs: Dict from pairs of a task's and an optimizer's name to a list of
            dicts as from `training.train`, one for each seed.
    """
    rows = []
    for (task, optimizer), found in runs.items():
        adam = runs.get((task, ADAM))
        row = {
            "task": task,
            "optimizer": optimizer,
            "seeds": len(found),
            "params": found[0]["params"],
            "num_steps": found[0]["steps"][-1],
            "metric_name": found[0]["metric_name"],
        }
        for name in ("valid_loss", "train_loss"):
            last = inf_if_diverged([run[name][-1] for run in found])
            row[name], row[f"{name}_ci95"] = _mean_ci95(last)
        last = [run["metric"] and run["metric"][-1] for run in found]
        first = inf_if_diverged(found[0]["valid_loss"][-1])
        row["valid_loss_of_first"] = float(first)
        row["metric_of_first"] = last[0]
        row["metric"], row["metric_ci95"] = (
            (None, None) if None in last else _mean_ci95(last)
        )
        losses = _losses(found)
        row["start_loss"], row["first_loss"] = losses[:, :2].mean(axis=0)
        row["best_valid_loss"] = losses[:, 1:].min(axis=1).mean()
        # Of the fastest run: beside it ran least.
        row["ms_per_step"] = float(min(run["ms_per_step"] for run in found))
        steps = adam and _steps_to(_losses(adam).mean(axis=0)[-1], found)
        row["steps_to_adam"] = steps
        row["seconds_to_adam"] = steps and steps * row["ms_per_step"] / 1000
        rows.append(row)
    return rows


def format_tables(rows):
    """Returns all tables of the suite and its figures, a text.

    Args:
        rows: List of dicts as from `summarize`.
    """
    names = {row["optimizer"] for row in rows}
    if names.intersection(opponents.ABLATIONS):
        return format_relative(rows, LEARNED)
    (first, columns), *others = _TABLES.items()
    parts = [f"{first}:\n\n{_grid(rows, *columns)}\n"]
    if found := figures(rows):
        parts.append("\n".join(["In short:\n", *found, ""]))
    parts += [f"{title}:\n\n{_grid(rows, *c)}\n" for title, c in others]
    return "\n".join(parts).rstrip("\n")


def figures(rows):
    """Returns what the default is measured by, a list of lines."""
    grid = {(r["task"], r["optimizer"]): r for r in _with_best(rows)}
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    names = {r["optimizer"] for r in rows}
    lines = []
    fixed = opponents.ADAMW_FIXED
    for opponent in (ADAM, fixed, ADAMW_BEST, "celo", "celo2", "muon"):
        for learned in (LEARNED, WITHOUT_LENGTH):
            pairs = [
                (t, *_of_same_seeds(grid[t, learned], grid[t, opponent]))
                for t in tasks
                if {(t, learned), (t, opponent)} <= grid.keys()
            ]
            if pairs and (learned == LEARNED or opponent == ADAM):
                lines.append(_against(learned, opponent, pairs))
    for name in sorted(names):
        bad = [
            t
            for t in tasks
            if (t, name) in grid and np.isinf(_loss(grid[t, name]))
        ]
        if bad:
            lines.append(f"{name} diverges on {', '.join(bad)}")
    # The same for all optimizers.
    start = {r["task"]: _shown(r["start_loss"]) for r in rows}
    for title, task, column in (
        ("coverage of the GAN", "gan", "metric"),
        (
            "loss after the first epoch of fine-tuning, "
            f"{start.get('fine_tuning')} before it",
            "fine_tuning",
            "first_loss",
        ),
    ):
        shown = [
            f"{name} {_shown(grid[task, name][column])}"
            for name in (LEARNED, WITHOUT_LENGTH, ADAM, "example")
            if (task, name) in grid
        ]
        if shown:
            lines.append(f"{title}: {', '.join(shown)}")
    if lines:
        lines.append(_seeds(rows))
    return [f"- {line}" for line in lines]


def _of_same_seeds(*rows):
    """Returns the rows, of the first seed alone if others are not of all."""
    if len({row["seeds"] for row in rows}) == 1:
        return rows
    return [
        {**row, **{n: row[f"{n}_of_first"] for n in ("valid_loss", "metric")}}
        for row in rows
    ]


def _seeds(rows):
    """Returns one line on how many runs each optimizer has on each task."""
    names = {}
    for name in dict.fromkeys(r["optimizer"] for r in rows):
        of_name = {r["seeds"] for r in rows if r["optimizer"] == name}
        counts = " or ".join(map(str, sorted(of_name)))
        names.setdefault(counts, []).append(name)
    found = [f"{n} of {', '.join(of_n)}" for n, of_n in names.items()]
    return f"seeds: {'; '.join(found)}"


def _against(learned, opponent, pairs):
    """Returns one line on an optimizer against another."""
    below = [t for t, a, b in pairs if _loss(a) <= _loss(b)]
    excess = {t: 100 * (_loss(a) / _loss(b) - 1) for t, a, b in pairs}
    line = f"{learned} ends at or below {opponent} on {len(below)} of "
    line += f"{len(pairs)} tasks"
    limit = _LIMITS.get(opponent, _LIMIT)
    above = [
        f"{t} (+{excess[t]:.1f} %)"
        for t in sorted(excess, key=excess.get, reverse=True)
        if excess[t] > limit
    ]
    line += f"; more than {limit} % above on {', '.join(above) or 'none'}"
    points = {
        t: 100 * (a["metric"] - b["metric"])
        for t, a, b in pairs
        if a["metric_name"] == "accuracy"
        and None not in (a["metric"], b["metric"])
    }
    if points:
        worst = min(points, key=points.get)
        line += f"; accuracy at its worst {points[worst]:+.2f} points ({worst})"
    if opponent == ADAM:
        sooner = [
            t
            for t, a, b in pairs
            if a["seconds_to_adam"] is not None
            and a["seconds_to_adam"] < b["seconds_to_adam"]
        ]
        line += f"; at its loss in less time on {len(sooner)}"
    return line


def _with_best(rows):
    """Returns rows with those of AdamW at its best rate of each task."""
    found = list(rows)
    for task in dict.fromkeys(r["task"] for r in rows):
        rates = [
            r for r in rows if r["task"] == task and r["optimizer"] in _RATES
        ]
        if rates:
            best = min(rates, key=_loss)
            found.append({**best, "optimizer": ADAMW_BEST})
    return found


def format_relative(rows, reference):
    """Returns a table of tasks by optimizers, with their means, a text.

    Args:
        rows: List of dicts as from `summarize`, of each task with each
            optimizer.
        reference: String, the optimizer that the others are compared with.
    """
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    names.remove(reference)
    grid = {(row["task"], row["optimizer"]): row for row in rows}
    tasks = list(dict.fromkeys(row["task"] for row in rows))

    def ratio(task, name):
        pair = _of_same_seeds(grid[task, name], grid[task, reference])
        return _loss(pair[0]) / _loss(pair[1])

    ratios = np.array([[ratio(t, n) for n in names] for t in tasks])
    table = [
        [title, *map(_percent, found)]
        for title, found in zip(
            [*tasks, "geometric mean", "median"],
            [
                *ratios,
                np.exp(np.log(ratios).mean(axis=0)),
                np.median(ratios, axis=0),
            ],
            strict=True,
        )
    ]
    table = tabulate.tabulate(
        [["task", *names], *table], tablefmt="plain", disable_numparse=True
    )
    title = "Percent by which the validation loss ends above that of"
    return f"{title} {reference}:\n\n{table}"


def _percent(ratio):
    return f"{100 * (ratio - 1):+.0f}" if np.isfinite(ratio) else "diverges"


def _grid(rows, name, interval):
    """Returns a table of tasks by optimizers."""
    rows = _with_best(rows)
    names = list(dict.fromkeys(r["optimizer"] for r in rows))
    # Beside the fixed rate, the best of all is enough.
    hidden = {*_RATES} - {opponents.ADAMW_FIXED}
    names = [name for name in names if name not in hidden]
    cells = {
        (r["task"], r["optimizer"]): _cell(r, name, interval) for r in rows
    }
    table = [
        [task, *(cells.get((task, other), "") for other in names)]
        for task in dict.fromkeys(r["task"] for r in rows)
    ]
    return tabulate.tabulate(
        [["task", *names], *table], tablefmt="plain", disable_numparse=True
    )


def _cell(row, name, interval):
    value = row[name]
    if name.endswith("loss") and np.isinf(inf_if_diverged(value)):
        return "diverges"
    text = _shown(value)
    if interval and row[interval] is not None:
        text += f" ±{row[interval]:.1g}"
    return text


def _shown(value):
    return "-" if value is None else f"{value:.4g}"


def _loss(row):
    return float(inf_if_diverged(row["valid_loss"]))


def _losses(runs):
    return inf_if_diverged([run["valid_loss"] for run in runs])


def _mean_ci95(values):
    """Returns a mean, and half of its 95 % interval or `None`."""
    half = float(half_ci95(values))
    return float(np.mean(values)), None if np.isnan(half) else half


def _steps_to(target, runs):
    """Returns the first step at which the mean loss is as low, or `None`."""
    reached = np.flatnonzero(_losses(runs).mean(axis=0) <= target)
    if not np.isfinite(target) or not reached.size:
        return None
    return runs[0]["steps"][int(reached[0])]
