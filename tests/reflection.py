"""All rules, tasks and estimators there are, each with its arguments."""

import functools

import numpy as np
import tensorflow as tf
import varied_data
from conftest import regression_task
from rule_reflection import ARGUMENTS
from rule_reflection import concrete_subclasses
from rule_reflection import every_rule
from rule_reflection import make
from rule_reflection import parametrize

from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.tasks import networks

__all__ = ["concrete_subclasses", "every_rule", "make"]

ARGUMENTS |= {
    tasks.Quadratic: lambda: tasks.Quadratic(tf.eye(3), tf.ones(3)),
    tasks.KerasModelTask: regression_task,
    tasks.Varied: varied_data.make_task,
    networks.NetworkTask: lambda: networks.NetworkTask(
        networks.Network("mlp", 4, 1)
    ),
    # Once: it takes seconds.
    tasks.NeuralArt: functools.cache(
        lambda: tasks.NeuralArt(np.full((8, 8, 3), 99), "l2l_patches/32")
    ),
    estimators.TruncatedBackprop: lambda: estimators.TruncatedBackprop(
        unroll_length=3
    ),
    estimators.EvolutionStrategies: lambda: estimators.EvolutionStrategies(
        unroll_length=3
    ),
    estimators.PersistentES: lambda: estimators.PersistentES(unroll_length=3),
    estimators.SingleES: lambda: estimators.SingleES(unroll_length=3),
    estimators.Imitation: lambda: estimators.Imitation(
        unroll_length=3, teacher=rules.Adam()
    ),
}

every_task = parametrize("task", tasks, tasks.TaskFamily)
every_estimator = parametrize(
    "estimator", estimators, estimators.GradientEstimator
)
