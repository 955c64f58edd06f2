"""Options as they are written down: checks, descriptions and JSON."""

import dataclasses
import json

import numpy as np
import pytest
from reflection import every_estimator
from reflection import make

from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import Curriculum
from keras_l2l.meta_training import MetaOptimizer
from keras_l2l.meta_training import Validation
from keras_l2l.meta_training import arguments_of
from keras_l2l.meta_training.meta_train import meta_train
from keras_l2l.meta_training.options import RunOptions
from keras_l2l.utils.options import descriptions_of
from keras_l2l.utils.options import without_none

GROUPS = (Curriculum, MetaOptimizer, Validation)
# What is wrong for any number and any bool.
NEVER_GOOD = [-1, -0.5, "1", b"1", [1], {}, float("nan"), float("inf")]
# Those of numbers and bools, with the arguments that their class needs.
OPTIONS = [
    (cls, field)
    for cls in (*GROUPS, *estimators.ESTIMATORS.values())
    for field in dataclasses.fields(cls)
    if without_none(field.type)[0] in (int, float, bool)
]


def make_options(cls, **options):
    if cls is estimators.Imitation:
        options["teacher"] = rules.Adam()
    return cls(**options)


def run_options(**options):
    return RunOptions(
        **{
            "horizon": 40,
            "meta_steps": 3,
            "meta_batch_size": 1,
            "seed": 0,
            "estimator": estimators.TruncatedBackprop(),
            "curriculum": Curriculum(),
            "validation": Validation(),
            "meta_optimizer": MetaOptimizer(),
            **options,
        }
    )


@pytest.mark.parametrize("value", NEVER_GOOD, ids=repr)
@pytest.mark.parametrize(
    "cls, field", OPTIONS, ids=lambda x: getattr(x, "name", "")
)
def test_bad_values_are_refused(cls, field, value):
    message = f"`{field.name}` must be .* Received: {field.name}="
    with pytest.raises(ValueError, match=message):
        make_options(cls, **{field.name: value})


@pytest.mark.parametrize(
    "cls, field", OPTIONS, ids=lambda x: getattr(x, "name", "")
)
def test_none_is_for_optional_ones(cls, field):
    if without_none(field.type)[1]:
        made = make_options(cls, **{field.name: None})
        assert getattr(made, field.name) is None
    else:
        with pytest.raises(ValueError, match=f"`{field.name}` must be"):
            make_options(cls, **{field.name: None})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": "mnist"}, "`task` must be"),
        ({"task": []}, "`task` must be at least one"),
        ({"task": [tasks.Quadratics(3), 3]}, "`task` must be"),
    ],
)
def test_what_can_not_be_validated_on(options, message):
    with pytest.raises(ValueError, match=message):
        Validation(**options)


def test_numbers_of_numpy_become_those_of_python():
    made = [
        Validation(interval=np.int64(3)).interval,
        MetaOptimizer(learning_rate=np.float32(0.5)).learning_rate,
        Curriculum(log_uniform_horizons=np.True_).log_uniform_horizons,
    ]
    assert [type(value) for value in made] == [int, float, bool]
    assert made == [3, 0.5, True]


def test_options_can_not_be_changed_but_replaced():
    options = MetaOptimizer()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.clipnorm = 3.0
    assert dataclasses.replace(options, clipnorm=3.0).clipnorm == 3.0
    with pytest.raises(ValueError, match="`clipnorm` must be"):
        dataclasses.replace(options, clipnorm=0)


@every_estimator
def test_arguments_come_back_from_a_configuration(estimator):
    options = run_options(
        estimator=make(estimator),
        horizon=42,
        seed=7,
        curriculum=Curriculum(first_horizon=6, log_uniform_horizons=True),
        validation=Validation(task=tasks.Quadratics(3), interval=5),
        meta_optimizer=MetaOptimizer(clipnorm=None, episode_clipnorm=2.0),
    )
    config = {
        "rule": rules.serialize(rules.Adam(0.3)),
        "task": {},
        **options.get_config(),
        "versions": {},
    }
    config = json.loads(json.dumps(config))
    found = arguments_of(config, validation_task=tasks.Quadratics(3))
    rule = found.pop("rule")
    assert rules.serialize(rule) == config["rule"]
    assert RunOptions(**found).get_config() == options.get_config()
    with pytest.raises(ValueError, match="`validation_task` must be that of"):
        arguments_of(config)
    with pytest.raises(ValueError, match="one without estimator, seed"):
        arguments_of({k: config[k] for k in config if k[0] not in "es"})


@pytest.mark.parametrize(
    "documented", [meta_train, *GROUPS, *estimators.ESTIMATORS.values()]
)
def test_every_option_is_described(documented):
    texts = descriptions_of(documented)
    if documented is meta_train:
        documented = RunOptions
    for field in dataclasses.fields(documented):
        assert 10 < len(texts[field.name]), field.name
        assert not texts[field.name].startswith("See"), field.name


def test_descriptions_are_those_of_the_docstring():
    texts = descriptions_of(MetaOptimizer)
    assert texts["learning_rate"] == "Float, initial learning rate."
    assert texts["clipnorm"] == (
        "Float, norm that longer meta-gradients are clipped to; `None` for no "
        "limit."
    )
    # Of the base class, where the option is.
    texts = descriptions_of(estimators.PersistentES)
    assert texts["unroll_length"] == "Int, inner steps per meta-gradient."
    assert texts["pairs"].startswith("Int, antithetic pairs")
