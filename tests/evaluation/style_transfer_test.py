import keras
import numpy as np
import pytest

from keras_l2l import evaluation
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.evaluation import plots
from keras_l2l.evaluation import style_transfer
from keras_l2l.optimizer.learned_optimizer import LearnedOptimizer

# Neural art is an experiment of its own. What it has in common with other
# tasks, tests of all tasks see.
pytestmark = pytest.mark.slow


def learned():
    return LearnedOptimizer(rule=rules.Adam(0.1))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    style = np.zeros((9, 5, 3))
    style[:, :, 0] = 255
    return tasks.NeuralArt(
        style, "l2l_patches/32", data_dir=tmp_path_factory.mktemp("data")
    )


@pytest.fixture(scope="module")
def results(task):
    return evaluation.evaluate(
        learned,
        task,
        horizon=4,
        seeds=range(2),
        tuning_seeds=[0],
        learning_rates=[0.1],
        baselines={"adam": keras.optimizers.Adam},
    )


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_pictures_are_what_was_evaluated(task, results, tmp_path):
    found = style_transfer.pictures(task, learned, results, seeds=[0, 5])
    assert [*found] == ["style", "content", "start", "learned", "adam"]
    assert found["style"].tolist() == [[[255, 0, 0]] * 32] * 32
    for name in ("content", "start", "learned", "adam"):
        first, second = found[name]
        assert first.shape == (32, 32, 3) and first.dtype == np.uint8
        assert (first != second).any()
    assert (found["learned"][0] != found["start"][0]).any()
    # Adam as a rule and Keras' own.
    difference = found["learned"][0].astype(int) - found["adam"][0]
    assert np.abs(difference).max() <= 1
    plots.plot_pictures(found, tmp_path / "pictures.png")
    assert (tmp_path / "pictures.png").stat().st_size > 10_000
    with pytest.raises(FileExistsError):
        plots.plot_pictures(found, tmp_path / "pictures.png")


@pytest.mark.filterwarnings("ignore:The best learning rate")
def test_results_of_another_task_are_refused(task, results):
    with pytest.raises(ValueError, match="'l2l_patches_32_neural_art'.*'x'"):
        style_transfer.pictures(task, learned, {**results, "task": "x"})
    config = {**results["task_config"], "style_sha256": "of another"}
    with pytest.raises(ValueError, match="of another"):
        style_transfer.pictures(
            task, learned, {**results, "task_config": config}
        )
    with pytest.raises(ValueError, match="`task` must be"):
        style_transfer.pictures("task", learned, results)
    with pytest.raises(ValueError, match="'quadratics'"):
        style_transfer.pictures(tasks.Quadratics(), learned, results)
