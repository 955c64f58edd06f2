"""Figures of results. No other module imports matplotlib."""

import itertools

import matplotlib.figure
import numpy as np
from PIL import Image

from keras_l2l.evaluation.summary import block_means
from keras_l2l.evaluation.summary import thinned
from keras_l2l.utils import files


def new_figure(path):
    """Returns the path of a figure to write, a `pathlib.Path`.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if the format is not one of matplotlib's.
    """
    path = files.require_new(path)
    formats = matplotlib.figure.Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ValueError(
            "The suffix of a figure must be that of a format of matplotlib. "
            f"Received: {str(path)!r}. Pass one of {', '.join(formats)}."
        )
    return path


def plot_curves(evaluation, path):
    """Draws the training curves of an evaluation: means with 95 % bands.

    Baselines are drawn with the learning rate that is tuned for the final
    loss. Curves of 400 or more steps are averaged over blocks of a
    two-hundredth of them, since the loss of a single batch is noisy.

    Args:
        evaluation: Dict as from `keras_l2l.evaluation.evaluate`.
        path: Path of the figure to write, which must not exist. Its suffix
            selects the format.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if `evaluation` is something else, or the format is not
            one of matplotlib's.
    """
    path = new_figure(path)
    missing = {"task", "horizon", "seeds", "results"} - set(evaluation)
    if missing:
        raise ValueError(
            "`evaluation` must be a result of keras_l2l.evaluation.evaluate. "
            f"Received: a dict without {', '.join(sorted(missing))}."
        )
    figure, axes = _figure(height=4.5)
    # The curves may already be means over blocks.
    points = len(thinned(evaluation["results"][0]["losses"]))
    block = evaluation["horizon"] // points
    steps = block_means(np.arange(1, evaluation["horizon"] + 1), block)
    limits, diverged, styles = [], False, itertools.cycle(("-", "--", ":"))
    for result in evaluation["results"]:
        tuned_for = result["tuned_for"]
        if tuned_for and "final_loss" not in tuned_for:
            continue
        learned = tuned_for is None
        label = result["optimizer"]
        if not learned:
            label += f" (learning rate {result['learning_rate']:g})"
        losses = thinned(result["losses"])
        low, high = thinned(result["losses_ci95"])
        if np.isfinite(losses).all():  # Bounds are NaN for a single seed.
            # A bound below 0 has no place on the axis.
            limits.append(np.nanmin(np.where(low > 0, low, losses)) / 1.5)
            limits.append(np.nanmax([losses, high]) * 1.5)
        else:
            diverged = True
            label += ", diverges"
        (line,) = axes.plot(
            steps,
            losses,
            label=label,
            linewidth=2.5 if learned else 1.3,
            linestyle=next(styles) if learned else "-",
            # Gray for optimizers that are neither learned nor tuned.
            color="black" if learned else None if tuned_for else "gray",
            zorder=3 if learned else 2,
        )
        axes.fill_between(
            steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set_yscale("log")
    if limits:
        axes.set_ylim(bottom=min(limits))
    if diverged and limits:
        # A diverging curve must not hide the others.
        axes.set_ylim(top=max(limits))
    axes.set_xlim(0, evaluation["horizon"])
    axes.set_xlabel("step")
    axes.set_ylabel("loss" if block == 1 else f"loss, means of {block} steps")
    axes.set_title(
        # Two lines, since names of tasks can be long.
        f"{evaluation['task']}\nmean of {len(evaluation['seeds'])} unseen "
        "initializations, 95 % interval"
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def plot_compared(steps, curves, path=None):
    """Draws validation and training losses by step and by time.

    Args:
        steps: Array of ints.
        curves: Dict from names of optimizers to dicts of `seconds`, an array,
            and of `training` and `validation`, dicts as from
            `keras_l2l.evaluation.summary.summarize`.
        path: As for `plot_curves`, or `None`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if the format is not one of matplotlib's.
    """
    if path is not None:
        path = new_figure(path)
    figure = matplotlib.figure.Figure(figsize=(10, 4.5), layout="constrained")
    by_step, by_time = figure.subplots(1, 2, sharey=True)
    lowest = []
    for i, (name, found) in enumerate(curves.items()):
        for axes, x in ((by_step, steps), (by_time, found["seconds"])):
            for kind, style in (("validation", "-"), ("training", ":")):
                losses = np.array(found[kind]["losses"], dtype=float)
                losses[~np.isfinite(losses)] = np.nan
                low, high = found[kind]["losses_ci95"]
                lowest += losses[losses > 0].tolist()
                axes.plot(
                    *(x, losses, style),
                    color=f"C{i}",
                    label=name if kind == "validation" else None,
                )
                axes.fill_between(
                    x, low, high, color=f"C{i}", alpha=0.15, linewidth=0
                )
    by_step.set_yscale("log")
    if lowest:
        # Of few seeds, an interval may reach below 0.
        by_step.set_ylim(bottom=min(lowest) / 2)
    by_step.set_ylabel("validation loss (dotted: training loss)")
    by_step.set_xlabel("step")
    by_time.set_xlabel("seconds of training, without compilation")
    by_time.set_xscale("log")
    by_step.legend(frameon=False)
    for axes in (by_step, by_time):
        axes.grid(alpha=0.3)
    if path is not None:
        _save(figure, path)
    return figure


def plot_frameworks(benchmark, path):
    """Draws the update times of several frameworks as bars.

    Args:
        benchmark: Dict as written by `train.benchmark --benchmark=frameworks`.
        path: As for `plot_curves`.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if `benchmark` is something else, or the format is not
            one of matplotlib's.
    """
    path = new_figure(path)
    _require_benchmark(benchmark, "frameworks")
    rows = benchmark["rows"]
    figure, axes = _figure(height=0.4 * len(rows) + 1)
    bars = axes.barh(
        [row["who"] for row in rows],
        [row["ns"] for row in rows],
        color=[
            "black" if row["who"] == "keras_l2l" else "silver" for row in rows
        ],
    )
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.set_xlabel("nanoseconds per parameter and update")
    axes.set_title(f"The paper's LSTM on {benchmark['cores']} CPU cores")
    _save(figure, path)


def plot_updates(analysis, path):
    """Draws proposed updates by gradient, together with Adam's.

    There is a column for each inner step and a row for each coordinate. Updates
    are in units of the largest in their panel.

    Args:
        analysis: Dict as from
            `keras_l2l.evaluation.proposed_updates.proposed_updates`.
        path: As for `plot_curves`.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if the format is not one of matplotlib's.
    """
    path = new_figure(path)
    rows, columns = len(analysis["coordinates"]), len(analysis["steps"])
    figure = matplotlib.figure.Figure(
        figsize=(2.6 * columns, 2.4 * rows), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for column, panels in enumerate(analysis["panels"]):
        for row, panel in enumerate(panels):
            axes = grid[row][column]
            for name, color in (("learned", "black"), ("adam", "tab:blue")):
                updates = np.array(panel[name])
                axes.plot(
                    panel["gradients"],
                    updates / max(np.abs(updates).max(), 1e-30),
                    color=color,
                    label=name,
                )
            axes.axvline(
                panel["gradient"],
                color="silver",
                linewidth=1,
                label="real gradient",
            )
            axes.ticklabel_format(scilimits=(-2, 2))
            axes.grid(alpha=0.3)
            if row == 0:
                axes.set_title(f"step {analysis['steps'][column]}")
            if row == rows - 1:
                axes.set_xlabel("gradient")
            if column == 0:
                index = analysis["coordinates"][row]
                axes.set_ylabel(f"coordinate {index}")
    grid[0][0].legend(frameon=False, fontsize="small")
    figure.suptitle(
        f"{analysis['rule']} on {analysis['task']}: proposed updates, in "
        "units of the largest"
    )
    _save(figure, path)


def plot_meta_training(history, path):
    """Draws the validation losses of a run by meta-step and time.

    Args:
        history: Dict as in a run's `history.json`.
        path: As for `plot_curves`.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if `history` is something else, or the format is not one
            of matplotlib's.
    """
    path = new_figure(path)
    missing = {"validation", "seconds"} - set(history)
    if missing:
        raise ValueError(
            "`history` must be that of a finished run, its history.json. "
            f"Received: a dict without {', '.join(sorted(missing))}."
        )
    figure, axes = _figure(height=3.5)
    validation = history["validation"]
    meta_steps = [entry["meta_step"] for entry in validation]
    for name in ("mean_loss", "final_loss"):
        losses = np.array([entry[name] for entry in validation], dtype=float)
        axes.plot(meta_steps, losses, "o-", label=name.replace("_", " "))
    axes.set_yscale("log")
    axes.set_xlabel("meta-step")
    axes.set_ylabel("validation loss")
    minutes = history["seconds"] / 60 / max([1, *meta_steps])
    times = lambda n: n * minutes, lambda m: m / minutes
    axes.secondary_xaxis("top", functions=times).set_xlabel("minutes")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def plot_pictures(pictures, path):
    """Draws pictures of neural art, with a row for each content image.

    Args:
        pictures: Dict as from `keras_l2l.evaluation.style_transfer.pictures`.
        path: As for `plot_curves`.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if the format is not one of matplotlib's.
    """
    path = new_figure(path)
    rows, columns = len(pictures["content"]), len(pictures)
    figure = matplotlib.figure.Figure(
        figsize=(1.5 * columns, 1.5 * rows + 0.3), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for column, (name, shown) in enumerate(pictures.items()):
        for row in range(rows):
            axes = grid[row][column]
            picture = shown if name == "style" else shown[row]
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
        grid[0][column].set_title(name, fontsize="medium")
    _save(figure, path, colors=256)


def _require_benchmark(benchmark, name):
    if benchmark.get("benchmark") != name:
        raise ValueError(
            "`benchmark` must be a result of train.benchmark "
            f"--benchmark={name}. Received: a dict with "
            f"{', '.join(map(str, benchmark))}."
        )


def _figure(height):
    # Without pyplot there is no global state, and no display is needed.
    figure = matplotlib.figure.Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure, path, colors=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    if path.suffix == ".png":
        # This takes a quarter of the bytes, and keeps rare colors.
        method = Image.Quantize.MAXCOVERAGE
        with Image.open(path) as image:
            image = image.convert("RGB")
        image.quantize(colors, method, kmeans=3, dither=0).save(
            path, optimize=True
        )
