"""Flags against the options that they are derived from."""

import pytest
from absl import flags
from absl.testing import flagsaver

import keras_l2l
from keras_l2l import estimators
from keras_l2l.meta_training import Curriculum
from keras_l2l.meta_training import MetaOptimizer
from keras_l2l.meta_training import Validation
from train import meta_flags
from train import option_flags


@pytest.fixture
def arguments():
    """Returns arguments of `meta_train` from a command line."""
    with flagsaver.flagsaver():
        meta_flags.define_flags()

        def parse(*given):
            flags.FLAGS(["meta_train", "--output_dir=new", *given])
            return option_flags.arguments(flags.FLAGS)

        yield parse
    flags.FLAGS.unparse_flags()


def described(found):
    return {
        name: value.get_config() if hasattr(value, "get_config") else value
        for name, value in found.items()
    }


def test_defaults_are_those_of_meta_train(arguments):
    assert described(arguments()) == {
        "horizon": 100,
        "meta_steps": 4000,
        "meta_batch_size": 1,
        "seed": 0,
        "estimator": estimators.TruncatedBackprop().get_config(),
        "curriculum": Curriculum().get_config(),
        "validation": Validation().get_config(),
        "meta_optimizer": MetaOptimizer().get_config(),
    }


def test_every_flag_reaches_its_option(arguments):
    found = arguments(
        "--horizon=40",
        "--seed=3",
        "--unroll_length=5",
        "--loss_weights=log",
        "--compile_unroll",
        "--sampled_coordinates=7",
        "--first_horizon=10",
        "--log_uniform_horizons",
        "--validation_task=quadratics",
        "--validation_interval=9",
        "--meta_learning_rate=0.5",
        "--meta_clipnorm=none",
        "--meta_episode_clipnorm=2",
    )
    assert (found["horizon"], found["seed"]) == (40, 3)
    expected = estimators.TruncatedBackprop(
        unroll_length=5,
        loss_weights="log",
        compile_unroll=True,
        sampled_coordinates=7,
    )
    assert found["estimator"].get_config() == expected.get_config()
    assert found["curriculum"] == Curriculum(
        first_horizon=10, log_uniform_horizons=True
    )
    assert found["meta_optimizer"] == MetaOptimizer(
        learning_rate=0.5, clipnorm=None, episode_clipnorm=2.0
    )
    assert isinstance(found["validation"].task, keras_l2l.tasks.Quadratics)
    assert found["validation"].interval == 9


@pytest.mark.parametrize(
    "given, expected",
    [
        (
            ("--estimator=es", "--pairs=9"),
            estimators.EvolutionStrategies(pairs=9),
        ),
        (
            ("--estimator=persistent_es", "--stddev=0.5"),
            estimators.PersistentES(stddev=0.5),
        ),
        (
            (
                "--estimator=imitation",
                "--teacher=momentum",
                "--teacher_learning_rate=0.2",
                "--imitation_weight=3",
            ),
            estimators.Imitation(
                teacher=keras_l2l.rules.Momentum(0.2), imitation_weight=3.0
            ),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_estimators(arguments, given, expected):
    found = arguments(*given)["estimator"]
    assert estimators.serialize(found) == estimators.serialize(expected)


@pytest.mark.parametrize(
    "given, message",
    [
        ("--pairs=9", "--pairs must go with --estimator=es or persistent_es"),
        ("--teacher=sgd", "--teacher must go with --estimator=imitation"),
        ("--teacher_learning_rate=1", "must go with --estimator=imitation"),
    ],
)
def test_flags_of_other_estimators_are_refused(arguments, given, message):
    with pytest.raises(ValueError, match=message):
        arguments(given)


def test_help_is_the_docstrings(arguments):
    text = flags.FLAGS["meta_clipnorm"].help
    assert text.startswith("Float, norm that longer meta-gradients are")
    assert flags.FLAGS["unroll_length"].help.startswith("Int, inner steps")
