"""Meta-training on several tasks, and options for long horizons."""

import functools
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import leaves
from conftest import regression_task
from conftest import slow_but
from conftest import uncompiled

import keras_l2l
from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import Curriculum
from keras_l2l.meta_training import MetaOptimizer
from keras_l2l.meta_training import Validation
from keras_l2l.meta_training import setup
from keras_l2l.meta_training.options import RunOptions
from keras_l2l.meta_training.validation import ValidationEpisodes

SEVERAL = [tasks.Quadratics(3), regression_task(), tasks.Quadratics(2)]


def meta_train(output_dir, task=SEVERAL, **arguments):
    defaults = {
        "rule": rules.Momentum(0.01),
        "horizon": 6,
        "estimator": estimators.TruncatedBackprop(unroll_length=3),
        "meta_steps": 6,
        "meta_batch_size": 3,
        "validation": Validation(interval=3, episodes=3),
        "verbose": 0,
    }
    return keras_l2l.meta_train(
        task=task, output_dir=output_dir, **{**defaults, **arguments}
    )


def make_run(
    task,
    episode_clipnorm=None,
    meta_batch_size=3,
    horizon=6,
    curriculum=None,
):
    options = RunOptions(
        horizon=horizon,
        meta_steps=6,
        meta_batch_size=meta_batch_size,
        seed=0,
        estimator=estimators.TruncatedBackprop(unroll_length=3),
        curriculum=curriculum or Curriculum(),
        validation=Validation(),
        meta_optimizer=MetaOptimizer(
            clipnorm=None, episode_clipnorm=episode_clipnorm
        ),
    )
    return setup.make_run(rules.Momentum(0.01), task, options, validates=False)


def test_each_place_starts_an_episode_where_the_last_has_ended():
    curriculum = Curriculum(log_uniform_horizons=True)
    task = [tasks.Quadratics(3), tasks.Quadratics(2)]
    arguments = {"horizon": 15, "curriculum": curriculum, "meta_batch_size": 4}
    run = make_run(task, **arguments)
    found = [run.meta_step(i) for i in range(6)]
    half = run.state()
    found += [run.meta_step(i) for i in range(6, 12)]
    for place in range(4):
        seeds = [step.seeds[place] for step in found]
        # Each seed for some meta-steps, and then the next of this place.
        assert seeds == sorted(seeds)
        assert {seed % 4 for seed in seeds} == {place}
        assert max(map(seeds.count, seeds[:-4])) > 1
    starts = [
        tuple(a != b for a, b in zip(before.seeds, after.seeds, strict=True))
        for before, after in itertools.pairwise(found)
    ]
    # Not in all places at once.
    assert any(any(start) and not all(start) for start in starts)
    resumed = make_run(task, **arguments)
    resumed.restore(*half)
    assert [resumed.meta_step(i) for i in range(6, 12)] == found[6:]


def test_a_meta_step_is_the_mean_over_all_tasks_of_clipped_gradients():
    rule, losses, gradients = rules.Momentum(0.01), [], []
    bound = [
        estimators.TruncatedBackprop(unroll_length=3).bind(rule, task, 6)
        for task in SEVERAL
    ]
    # The first group's episodes: seeds 0 to 5, of each task in turn.
    for seed in range(6):
        estimator = bound[seed % 3]
        gradient, loss, _ = estimator.estimate(
            rule.init_meta_params(0), estimator.init(seed), tf.constant(0)
        )
        losses.append(float(loss))
        gradients.append(np.stack(tf.nest.flatten(gradient)))
    norms = np.linalg.norm(gradients, axis=1)
    # Some are shorter, and some are longer.
    for clipnorm in (None, float(np.median(norms))):
        run = make_run(SEVERAL, episode_clipnorm=clipnorm, meta_batch_size=6)
        step = run.meta_step(0)
        assert step.seeds == [0, 1, 2, 3, 4, 5]
        assert step.meta_loss == pytest.approx(np.mean(losses), rel=1e-5)
        scales = np.minimum(1, (clipnorm or np.inf) / norms)
        expected = np.mean(scales[:, None] * gradients, axis=0)
        assert step.meta_gradient_norm == pytest.approx(
            np.linalg.norm(expected), rel=1e-5
        )


@pytest.mark.slow
def test_a_run_on_several_tasks_goes_on_after_a_checkpoint(tmp_path):
    whole = meta_train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        meta_train(tmp_path / "resumed", task=[_Stopping(), *SEVERAL[1:]])
    resumed = meta_train(tmp_path / "resumed", resume=True)
    for a, b in zip(
        leaves(whole.meta_params), leaves(resumed.meta_params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert [t["name"] for t in config["task"]] == [t.name for t in SEVERAL]


class _Stopping(tasks.Quadratics):
    """Interrupts the run when its third group of episodes starts."""

    samples = 0

    def __init__(self):
        super().__init__(3)

    def sample(self, seed):
        # Those of groups have seeds of the split train, and are not traced.
        if tf.executing_eagerly() and int(seed) % 3 == 0 and int(seed) >= 18:
            raise KeyboardInterrupt
        return super().sample(seed)


def test_validation_of_logarithms_on_other_tasks(tmp_path):
    other = [tasks.Quadratics(5), tasks.Quadratics(2)]
    result = meta_train(
        tmp_path,
        estimator=estimators.TruncatedBackprop(
            unroll_length=3, loss_weights="log"
        ),
        validation=Validation(task=other, interval=3, episodes=2),
        meta_steps=3,
    )
    rule = rules.Momentum(0.01)
    losses = ValidationEpisodes(rule, other, 6, 2).losses(
        rule.init_meta_params(0)
    )
    assert losses.shape == (2, 6)
    # Geometric means.
    expected = np.exp(np.mean(np.log(losses + 0.001))) - 0.001
    first = result.history["validation"][0]
    assert first["mean_loss"] == pytest.approx(expected, rel=1e-4)
    expected = np.exp(np.mean(np.log(losses[:, -1:] + 0.001))) - 0.001
    assert first["final_loss"] == pytest.approx(expected, rel=1e-4)
    config = json.loads((tmp_path / "config.json").read_text())
    found = config["validation"]["task"]
    assert [task["config"] for task in found] == [
        {"dimension": 5},
        {"dimension": 2},
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a function from arguments to a run's arrays and its folder."""

    @functools.cache
    def found(**arguments):
        folder = tmp_path_factory.mktemp("run")
        # Not of two numbers, which Adam moves alike for gradients of one sign.
        rule = uncompiled(rules.RNNprop((3,)))
        result = meta_train(folder, SEVERAL[0], rule=rule, **arguments)
        return leaves(result.meta_params), folder

    return found


@pytest.mark.parametrize(
    "name, options, horizon",
    [
        pytest.param(
            "curriculum",
            Curriculum(first_horizon=3),
            12,
            marks=pytest.mark.slow,
        ),
        ("curriculum", Curriculum(log_uniform_horizons=True), 12),
        pytest.param(
            "meta_optimizer",
            MetaOptimizer(learning_rate=0.01, episode_clipnorm=1e-3),
            6,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "estimator",
            estimators.EvolutionStrategies(unroll_length=3),
            6,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "estimator",
            estimators.PersistentES(unroll_length=3, stddev=0.1),
            6,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "estimator",
            estimators.TruncatedBackprop(unroll_length=3, loss_weights="log"),
            6,
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_each_option_changes_the_result(name, options, horizon, run):
    plain, _ = run(horizon=horizon)
    other, folder = run(horizon=horizon, **{name: options})
    assert any(
        np.abs(a - b).max() > 1e-6 for a, b in zip(plain, other, strict=True)
    )
    config = json.loads((folder / "config.json").read_text())
    found = config[name]
    assert found.get("config", found) == options.get_config()


@pytest.mark.parametrize(
    "cls",
    # What others of evolution strategies compile is of one class.
    slow_but(
        [estimators.PersistentES],
        [estimators.TruncatedBackprop, estimators.PersistentES],
    ),
)
def test_compiled_unrolls_are_the_same(cls):
    task, rule = regression_task(), rules.RNNprop((3,))
    found = []
    for compile_unroll in (False, True):
        estimator = cls(
            unroll_length=3, loss_weights="log", compile_unroll=compile_unroll
        ).bind(rule, task, 6)
        gradient, loss, episode = estimator.estimate(
            rule.init_meta_params(0), estimator.init(0), tf.constant(0)
        )
        found.append(leaves((gradient, loss, episode.carry)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"meta_batch_size": 4},
            "`meta_batch_size` must be .* times that of tasks, 3",
        ),
        (
            {"validation": Validation(episodes=2)},
            "`episodes` must be a multiple of the number of tasks .*, 3",
        ),
        ({"task": [*SEVERAL, "mnist"]}, "`task` must be"),
        ({"task": []}, "`task` must"),
    ],
    # Not of what the arguments are: tasks have addresses.
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_write_nothing(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        meta_train(tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()
