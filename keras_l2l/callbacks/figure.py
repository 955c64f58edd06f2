"""The figure of an `UpdateMonitor`. It imports matplotlib when it is drawn."""

import numpy as np

# Colors of matplotlib's default cycle.
_COLORS = 10


def draw(history, path=None):
    """Returns a figure of updates by step; see `UpdateMonitor.plot`.

    Args:
        history: Dict, `UpdateMonitor.history`.
        path: Path of the figure to write, or `None`.
    """
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise ImportError(
            "The package matplotlib must be installed to draw a figure. "
            f"Received: {error}. Run `pip install matplotlib`, or read "
            "`monitor.history`."
        ) from None
    steps, variables = history["step"], history["variables"]
    if not steps:
        raise ValueError(
            "A monitor must have measured a step before it is drawn. Received: "
            "one without a measurement. Pass it to `fit` in `callbacks`."
        )
    figure = matplotlib.figure.Figure(figsize=(9, 6), layout="constrained")
    ratios, shares = figure.subplots(
        2, sharex=True, gridspec_kw={"height_ratios": (3, 1)}
    )
    skipped = history["skipped_steps"][-1]
    for i, (name, measured) in enumerate(variables.items()):
        color = f"C{i % _COLORS}"
        if not np.any(measured["update_ratio"]):
            is_zero = not np.any(measured["adam_rms"]) and not skipped
            why = "gradients of 0" if is_zero else "no finite gradients"
            name = f"{name} (does not move: {why})"
        for key, style, label in (
            ("update_ratio", "o-", name),
            ("adam_ratio", ":", None),
        ):
            values = np.array(measured[key], dtype=float)
            # Neither 0 nor the ratio to a value of 0 has a place on the axis.
            values[~((values > 0) & np.isfinite(values))] = np.nan
            ratios.plot(
                *(steps, values, style), color=color, label=label, markersize=3
            )
        shares.plot(steps, measured["masked"], "o-", color=color, markersize=3)
    ratios.set_yscale("log")
    ratios.set_ylabel("update / parameter")
    title = "Root mean squares by step; dotted: Adam's, at 0.001"
    if skipped:
        title += f"\nSteps with NaN or infinite gradients: {skipped}"
    ratios.set_title(title)
    ratios.legend(
        frameon=False,
        fontsize="x-small",
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    shares.set_ylabel("masked")
    shares.set_ylim(-0.05, 1.05)
    shares.set_xlabel("step")
    for axes in (ratios, shares):
        axes.grid(alpha=0.3)
        handed_over = [s for s in history["handed_over"] if s is not None]
        if handed_over:
            axes.axvline(handed_over[0], color="black", linewidth=1)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
