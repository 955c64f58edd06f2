import numpy as np
import pytest

from keras_l2l.evaluation import plots
from keras_l2l.evaluation import summary


def make_evaluation(horizon=5):
    rng = np.random.default_rng(0)

    def result(name, rate, tuned_for):
        curves = rng.uniform(0.5, 2.0, size=(4, horizon))
        return {
            "optimizer": name,
            "learning_rate": rate,
            "tuned_for": tuned_for,
            **summary.summarize(curves),
        }

    return {
        "task": "task",
        "horizon": horizon,
        "seeds": [0, 1, 2, 3],
        "results": [
            result("learned", None, None),
            result("adam", 0.1, ["final_loss"]),
            result("adam", 0.01, ["mean_loss"]),
            result("sgd", 1.0, ["mean_loss", "final_loss"]),
            result("adam_default", 0.001, []),
        ],
    }


BENCHMARK = {
    "benchmark": "frameworks",
    "cores": 2,
    "rows": [
        {"who": "keras_l2l", "ns": 100.0},
        {"who": "jax jit", "ns": 300.0},
    ],
}


@pytest.fixture
def drawn(monkeypatch):
    """The list of the figures that are saved."""
    figures = []
    savefig = plots.matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        plots.matplotlib.figure.Figure,
        "savefig",
        lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k)),
    )
    return figures


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figure_is_written(tmp_path, suffix):
    path = tmp_path / "new" / f"curves.{suffix}"
    plots.plot_curves(make_evaluation(), path)
    start = path.read_bytes()[:100]
    marks = {"png": b"PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    assert marks[suffix] in start


def test_what_is_drawn(tmp_path, drawn):
    content = make_evaluation()
    plots.plot_curves(content, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    assert axes.get_yscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        "learned",
        "adam (learning rate 0.1)",
        "sgd (learning rate 1)",
        "adam_default (learning rate 0.001)",
    ]
    expected = [content["results"][i]["losses"] for i in (0, 1, 3, 4)]
    for line, losses in zip(axes.get_lines(), expected, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(line.get_ydata(), losses)
    assert len(axes.collections) == 4


def test_long_curves_are_drawn_by_means(tmp_path, drawn):
    content = make_evaluation(horizon=405)
    plots.plot_curves(content, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    line = axes.get_lines()[0]
    losses = content["results"][0]["losses"]
    assert len(line.get_xdata()) == 202
    np.testing.assert_allclose(line.get_xdata()[:2], [1.5, 3.5])
    np.testing.assert_allclose(
        line.get_ydata()[-1], (losses[402] + losses[403]) / 2
    )
    assert axes.get_ylabel() == "loss, means of 2 steps"


def test_curves_of_blocks_are_drawn_at_their_steps(tmp_path, drawn):
    content = {**make_evaluation(horizon=5), "horizon": 250, "block": 50}
    plots.plot_curves(content, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    steps = axes.get_lines()[0].get_xdata()
    np.testing.assert_allclose(steps, [25.5, 75.5, 125.5, 175.5, 225.5])
    assert axes.get_ylabel() == "loss, means of 50 steps"


def test_a_palette_keeps_rare_colors(tmp_path, drawn):
    content = make_evaluation()
    # One that diverges: its color is in the legend alone.
    content["results"][3]["losses_ci95"] = [[None] * 5] * 2
    content["results"][3]["losses"] = [None] * 5
    path = tmp_path / "curves.png"
    plots.plot_curves(content, path)
    with plots.Image.open(path) as image:
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    color = drawn[0].axes[0].get_lines()[2].get_color()
    expected = 255 * np.array(plots.matplotlib.colors.to_rgb(color))
    distances = np.abs(np.unique(pixels, axis=0) - expected).max(axis=1)
    assert distances.min() < 20
    full = path.with_name("full.png")
    drawn[0].savefig(full, dpi=120)
    assert path.stat().st_size < full.stat().st_size / 2


def test_what_diverges_does_not_hide_the_others(tmp_path, drawn):
    content = make_evaluation()
    # As from JSON: what is not finite is None.
    content["results"][3]["losses"] = [1e3, 1e24, None, None, None]
    content["results"][3]["losses_ci95"] = [
        [1e2, 1e23, None, None, None],
        [1e4, 1e25, None, None, None],
    ]
    plots.plot_curves(content, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    low, high = axes.get_ylim()
    assert 0.1 < low < 0.5 and 2 < high < 10
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2] == "sgd (learning rate 1), diverges"


def test_one_seed_does_not_diverge(tmp_path, drawn):
    content = make_evaluation()
    for result in content["results"]:
        result |= summary.summarize(np.float32([[3.0, 2.0, 1.5, 1.0, 0.5]]))
    content["results"][3]["losses"] = [1e3, 1e24, None, None, None]
    plots.plot_curves(content, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label for label in labels if "diverges" in label] == [labels[2]]
    low, high = axes.get_ylim()
    assert 0.1 < low < 0.5 and 3 < high < 10


def test_bars_of_the_frameworks(tmp_path, drawn):
    plots.plot_frameworks(BENCHMARK, tmp_path / "bars.png")
    (axes,) = drawn[0].axes
    assert [bar.get_width() for bar in axes.patches] == [100, 300]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["keras_l2l", "jax jit"]
    assert (tmp_path / "bars.png").read_bytes()[1:4] == b"PNG"


HISTORY = {
    "meta_loss": [3.0, 2.0, 1.0],
    "validation": [
        {"meta_step": 0, "mean_loss": 2.0, "final_loss": 1.0},
        {"meta_step": 3, "mean_loss": 1.0, "final_loss": 0.1},
    ],
    "seconds": 125.0,
}


def test_validations_of_a_run(tmp_path, drawn):
    plots.plot_meta_training(HISTORY, tmp_path / "run.png")
    (axes,) = drawn[0].axes
    mean, final = axes.get_lines()
    np.testing.assert_array_equal(mean.get_xydata(), [[0, 2.0], [3, 1.0]])
    np.testing.assert_array_equal(final.get_xydata(), [[0, 1.0], [3, 0.1]])
    (times,) = axes.child_axes
    assert times.get_xlabel() == "minutes"
    # Of 125 seconds for three meta-steps.
    expected = np.array(axes.get_xlim()) * 125 / 60 / 3
    np.testing.assert_allclose(times.get_xlim(), expected)


def test_updates_of_two_coordinates_at_three_steps(tmp_path, drawn):
    panel = {
        "gradient": 0.5,
        "gradients": [-1.0, 0.0, 1.0],
        "learned": [2.0, 0.0, -4.0],
        "adam": [0.0, 0.0, 0.0],
    }
    found = {
        "task": "task",
        "rule": "rule",
        "steps": [0, 1, 2],
        "coordinates": [7, 8],
        "panels": [[panel, panel]] * 3,
    }
    plots.plot_updates(found, tmp_path / "updates.png")
    assert len(drawn[0].axes) == 6
    learned, adam, real = drawn[0].axes[0].get_lines()
    np.testing.assert_array_equal(learned.get_ydata(), [0.5, 0, -1])
    np.testing.assert_array_equal(adam.get_ydata(), [0, 0, 0])
    assert list(real.get_xdata()) == [0.5, 0.5]


def test_a_figure_is_never_overwritten(tmp_path):
    (tmp_path / "curves.png").write_text("precious")
    with pytest.raises(FileExistsError, match="must be new"):
        plots.plot_curves(make_evaluation(), tmp_path / "curves.png")
    with pytest.raises(FileExistsError, match="must be new"):
        plots.plot_frameworks(BENCHMARK, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_text() == "precious"


def test_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="without horizon, seeds, task"):
        plots.plot_curves({"results": 3}, tmp_path / "curves.png")
    with pytest.raises(ValueError, match="without seconds, valid"):
        plots.plot_meta_training({"results": 3}, tmp_path / "run.png")
    with pytest.raises(ValueError, match="dict with results"):
        plots.plot_frameworks({"results": 3}, tmp_path / "curves.png")
    with pytest.raises(ValueError, match="=frameworks"):
        plots.plot_frameworks(
            {**BENCHMARK, "benchmark": "rules"}, tmp_path / "bars.png"
        )
    assert list(tmp_path.iterdir()) == []
