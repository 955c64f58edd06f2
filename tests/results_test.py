import numpy as np

from keras_l2l import results


def test_summary_by_hand():
    curves = np.array([[4.0, 2.0], [2.0, 0.0], [6.0, 1.0]])
    summary = results.summarize(curves)
    assert summary["losses"] == [4.0, 1.0]
    assert summary["mean_loss"] == 2.5
    assert summary["mean_loss_median"] == 3.0
    assert summary["final_loss"] == 1.0
    assert summary["final_loss_median"] == 1.0
    low, high = summary["final_loss_ci95"]
    assert 0.0 <= low < 1.0 < high <= 2.0
    assert np.shape(summary["losses_ci95"]) == (2, 2)


def test_interval_covers_the_mean_about_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = rng.normal(size=(30, 1))
        low, high = results.summarize(values)["final_loss_ci95"]
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99
