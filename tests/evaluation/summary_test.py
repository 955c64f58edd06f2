import re

import numpy as np
import pytest

from keras_l2l.evaluation import summary


def test_summary_by_hand():
    curves = np.array([[4.0, 2.0], [2.0, 0.0], [6.0, 1.0]])
    found = summary.summarize(curves)
    assert found["losses"] == [4.0, 1.0]
    assert found["mean_loss"] == 2.5
    assert found["mean_loss_median"] == 3.0
    assert found["final_loss"] == 1.0
    assert found["final_loss_median"] == 1.0
    # 4.303, of Student's t, times the standard deviation 1 by the root of 3.
    np.testing.assert_allclose(
        found["final_loss_ci95"], [1 - 2.4841, 1 + 2.4841], atol=1e-4
    )
    assert np.shape(found["losses_ci95"]) == (2, 2)


def test_metrics_have_statistics_and_columns():
    curves = np.array([[4.0, 2.0], [2.0, 0.0], [6.0, 1.0]])
    metrics = [{"test_accuracy": v} for v in (0.25, 1.0, 0.7)]
    found = summary.summarize(curves, metrics)
    assert found["test_accuracy"] == 0.65
    assert found["test_accuracy_median"] == 0.7
    low, high = found["test_accuracy_ci95"]
    assert low < 0.25 < 1.0 < high
    del found["test_accuracy"], found["test_accuracy_median"]
    table = {
        "results": [
            {
                "optimizer": "sgd",
                "learning_rate": 1,
                "test_accuracy": 0.65,
                **found,
            }
        ]
    }
    title, row = summary.format_table(table).splitlines()
    assert title.split("  ")[-1].strip() == "test accuracy [95 %]"
    assert row.endswith(f"0.6500 [{low:.4f}, {high:.4f}]")


def test_only_what_all_have_is_a_column():
    curves = np.array([[4.0, 2.0], [2.0, 1.0]])
    rows = [
        {
            "optimizer": "sgd",
            "learning_rate": 1,
            **summary.summarize(curves, metrics),
        }
        for metrics in ([{"test_loss": 1.0}, {"test_loss": 2.0}], [])
    ]
    title, *_ = summary.format_table({"results": rows}).splitlines()
    assert title.endswith("final loss [95 %]")
    title, _ = summary.format_table({"results": rows[:1]}).splitlines()
    assert title.endswith("test loss [95 %]")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_seed_that_diverges_is_inf(bad):
    curves = np.float32([[4.0, 2.0, 3.0], [2.0, bad, bad], [6.0, -bad, bad]])
    found = summary.summarize(curves)
    assert found["losses"] == [4.0, np.inf, np.inf]
    low, high = found["losses_ci95"]
    np.testing.assert_allclose([low[0], high[0]], [4 - 4.968, 4 + 4.968], 1e-3)
    assert np.isnan([low[1:], high[1:]]).all()
    for name in summary.CRITERIA:
        assert found[name] == found[f"{name}_median"] == np.inf
        assert np.isnan(found[f"{name}_ci95"]).all()


@pytest.mark.parametrize("seeds", [2, 3, 30])
def test_interval_covers_the_mean_95_percent_of_the_time(seeds):
    values = np.random.default_rng(0).normal(size=(seeds, 10_000))
    low, high = summary.summarize(values)["losses_ci95"]
    covered = np.mean((np.array(low) <= 0) & (np.array(high) >= 0))
    assert covered == pytest.approx(0.95, abs=0.01)


def long_evaluation():
    """Returns an evaluation in four blocks of 500 steps."""

    def result(optimizer, tuned_for, losses):
        curves = np.array([losses, losses])
        return {
            "optimizer": optimizer,
            "learning_rate": 0.1,
            "tuned_for": tuned_for,
            **summary.summarize(curves),
        }

    return {
        "block": 500,
        "horizon": 2000,
        "results": [
            result("learned", None, [3.0, 0.5, 0.09, 0.2]),
            result("adam_default", [], [9.0, 8.0, 7.0, 6.0]),
            result("adam", ["mean_loss"], [1.0, 0.5, 0.3, 0.3]),
            result("adam", ["final_loss"], [2.0, 1.0, 0.4, 0.1]),
        ],
    }


def test_long_trainings_are_told_by_milestones():
    evaluation = long_evaluation()
    found = summary.with_milestones(evaluation)
    assert [f["loss_at_1000"] for f in found] == [0.5, 8.0, 0.5, 1.0]
    assert found[0]["loss_at_1000_ci95"] == [0.5, 0.5]
    assert [f["steps_to_adam"] for f in found] == [1500, None, None, 2000]
    # None where there are none: too short, between blocks, without Adam, or
    # with one that is not tuned.
    learned, default, *_ = evaluation["results"]
    for other in (
        {"horizon": 500},
        {"block": 300},
        {"results": [learned, default]},
        {"results": [{**learned, "optimizer": "adam"}]},
    ):
        table = summary.format_table({**evaluation, **other})
        assert "mean loss" in table and "steps to adam" not in table
    title, *rows = summary.format_table(evaluation).splitlines()
    assert title.split("  ")[-1].strip() == "steps to adam"
    assert [row.split()[-1] for row in rows] == ["1500", "-", "-", "2000"]
    assert rows[0].split()[2:8] == [
        "0.5",
        "[0.5,",
        "0.5]",
        "0.2",
        "[0.2,",
        "0.2]",
    ]


def test_summary_of_long_trainings_of_several_tasks():
    never = long_evaluation()
    never["results"][0] |= summary.summarize(np.full((2, 4), 7.0))
    table = summary.format_summary({"one": long_evaluation(), "two": never})
    title, *rows = [re.split("  +", row) for row in table.splitlines()]
    assert [row[:2] for row in rows] == [
        [name, step] for name in ("one", "two") for step in ("1000", "2000")
    ]
    assert title[2].startswith("learned") and rows[0][2] == "0.5 [0.5, 0.5]"
    # Of both that were tuned, the lower one at the step.
    assert title[3].startswith("adam, tuned")
    assert [row[3].split()[0] for row in rows] == ["0.5", "0.1"] * 2
    assert title[4].startswith("adam, default") and rows[0][4][:2] == "8 "
    assert title[5] == "steps to tuned adam"
    assert [row[5:] for row in rows] == [[], ["1500"], [], ["-"]]


def test_long_trainings_that_diverge():
    evaluation = long_evaluation()
    learned, _, other, tuned = evaluation["results"]
    # As they come back from JSON.
    learned |= {"final_loss": None, "losses": [3.0, 0.5, None, None]}
    tuned |= {"final_loss": None, "losses": [2.0, 1.0, None, None]}
    assert [
        f["steps_to_adam"] for f in summary.with_milestones(evaluation)
    ] == [None] * 4
    row = re.split(
        "  +", summary.format_summary({"one": evaluation}).splitlines()[2]
    )
    assert row[2:4] == ["diverges", "0.3 [0.3, 0.3]"]
    other["final_loss"] = None
    row = summary.format_summary({"one": evaluation}).splitlines()[2]
    assert row.split()[2:4] == ["diverges", "diverges"]
