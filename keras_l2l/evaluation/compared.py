"""The result of `compare`: a sentence, a table and a figure."""

import os
import re
import typing

import numpy as np

from keras_l2l.evaluation import plots
from keras_l2l.evaluation import summary
from keras_l2l.utils import files

_RATE = r"AdamW [\d.e-]+"
# From what ratio on the times of steps are told.
_SLOWER = 1.5


class Compared:
    """What `compare` found.

    Args:
        results: JSON-able dict, as `save` writes it: `steps`, `points` (the
            steps at which a validation comes), `seeds`, and `optimizers`, a
            dict from names to dicts of `learned`, a bool, and `runs`. A run is
            a dict of lists with an entry for each point: `loss`, the mean
            training loss since the point before; `validation`, a dict of the
            validation loss and metrics; and `seconds` since the point before.

    Attributes:
        results: The dict.
        names: List of the optimizers' names.
    """

    def __init__(self, results: dict[str, typing.Any]) -> None:
        self.results = results
        self.names = list(results["optimizers"])
        self._summaries = {name: self._summary(name) for name in self.names}

    def _summary(self, name):
        """Returns the statistics of one optimizer over the seeds."""
        runs = self.results["optimizers"][name]["runs"]
        last = [run["validation"][-1] for run in runs]
        others = [
            {k: _number(v) for k, v in m.items() if k != "loss"} for m in last
        ]
        validation = summary.summarize(
            _curves([[v["loss"] for v in r["validation"]] for r in runs]),
            others if others[0] else (),
        )
        return {
            "training": summary.summarize(_curves([r["loss"] for r in runs])),
            "validation": validation,
            "metrics": list(others[0]),
            "ms": 1000 * self._seconds_a_step(runs),
        }

    def _seconds_a_step(self, runs):
        steps = np.diff(self.results["points"])
        # The first step of all is compiled.
        found = [np.array(r["seconds"][1:]) / steps for r in runs]
        return float(np.median(found))

    def best(self) -> list[str]:
        """Returns the names, from the lowest final validation loss up."""
        return sorted(
            self.names,
            key=lambda n: self._summaries[n]["validation"]["final_loss"],
        )

    def verdict(self) -> str:
        """Returns one sentence: which is best, by how much, and how surely.

        The best learned optimizer is compared with the best of the others.
        """
        best, *others = self.best()
        if not others:
            return f"{best} was compared with no other optimizer."
        of_other_kind = [n for n in others if self._kind(n) != self._kind(best)]
        other = [*of_other_kind, *others][0]
        (low, (_, high)), (value, (start, _)) = map(
            self._loss_of, (best, other)
        )
        if not np.isfinite(low):
            return "All optimizers diverged: lower their learning rates."
        if len(self.results["seeds"]) < 2:
            surely = "one seed has no interval, so pass more `seeds`"
        elif high < start or not np.isfinite(value):
            surely = f"the 95 % intervals do not overlap: use {best}"
        else:
            surely = "the 95 % intervals overlap, so either may be better"
        return (
            f"After {self.results['steps']} steps {best} has the lowest "
            f"validation loss, {low:.4g}; {other} has {_against(value, low)}; "
            f"{surely}.{self._of_time(best, other)}{self._of_rates()}"
        )

    def _of_time(self, best, other):
        """Returns a sentence if a step of one takes much longer, or nothing."""
        ratio = self._summaries[best]["ms"] / self._summaries[other]["ms"]
        if 1 / _SLOWER < ratio < _SLOWER:
            return ""
        slow, fast = (best, other) if ratio > 1 else (other, best)
        return (
            f" A step of {slow} takes {max(ratio, 1 / ratio):.1f} times as "
            f"long as one of {fast}: the figure shows losses by time, too."
        )

    def _of_rates(self):
        """Returns a warning if the best rate of AdamW is not between others."""
        rates = {
            name: float(name.split()[1])
            for name in self.best()
            if re.fullmatch(_RATE, name)
        }
        if len(rates) < 3:
            return ""
        best = next(iter(rates))
        extremes = {min: "lowest", max: "highest"}
        for extreme, word in extremes.items():
            if rates[best] == extreme(rates.values()):
                return (
                    f" The best rate of AdamW, {rates[best]:g}, is the {word} "
                    "that was tried: others may be better."
                )
        return ""

    def _kind(self, name):
        return self.results["optimizers"][name]["learned"]

    def _loss_of(self, name):
        found = self._summaries[name]["validation"]
        return found["final_loss"], found["final_loss_ci95"]

    def table(self) -> str:
        """Returns a table of all optimizers, the best first, a string."""
        metrics = self._summaries[self.names[0]]["metrics"]
        rows = [
            (
                *("optimizer", "validation loss [95 %]"),
                *(f"{name} [95 %]" for name in metrics),
                *("training loss [95 %]", "ms a step"),
            )
        ]
        for name in self.best():
            found = self._summaries[name]
            cells = [
                summary.with_interval(found["validation"], key, ".4g")
                for key in ("final_loss", *metrics)
            ]
            training = summary.with_interval(
                found["training"], "final_loss", ".4g"
            )
            rows.append((name, *cells, training, f"{found['ms']:.2f}"))
        return summary.aligned(rows)

    def plot(self, path: str | os.PathLike[str] | None = None) -> typing.Any:
        """Draws losses by step and by time, with 95 % bands.

        Args:
            path: Path of the figure to write, which must not exist, or `None`.

        Returns:
            `matplotlib.figure.Figure`, which a notebook shows.
        """
        shown = {}
        for name in self.best():
            # Of the rates of AdamW, the best.
            is_rate = re.fullmatch(_RATE, name)
            kind = "AdamW" if is_rate else name
            shown.setdefault(kind, (name, self._summaries[name]))
        points = np.array(self.results["points"])
        curves = {
            name: {
                "seconds": points * found["ms"] / 1000,
                "training": found["training"],
                "validation": found["validation"],
            }
            for name, found in shown.values()
        }
        return plots.plot_compared(points, curves, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the results to a new JSON file.

        Raises:
            FileExistsError: if the file exists.
        """
        files.write_json(files.require_new(path), self.results)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> typing.Self:
        """Returns what `save` has written."""
        return cls(files.read_json(path))

    def __str__(self):
        return f"{self.verdict()}\n\n{self.table()}"

    __repr__ = __str__


def _curves(losses):
    """Returns losses as an array; JSON has `None` for what is not finite."""
    return np.array(losses, dtype=float)


def _number(value):
    return float("nan") if value is None else value


def _against(value, low):
    """Returns a loss and how far it is above a lower one, a string."""
    if not np.isfinite(value):
        return "diverged"
    if low <= 0:
        return f"{value:.4g}"
    return f"{value:.4g}, which is {100 * (value / low - 1):.0f} % higher"
