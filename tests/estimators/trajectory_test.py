"""`fit`, the unroll of meta-training and analysis take the same steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import slow_but
from conftest import uncompiled
from keras import layers
from reflection import every_rule
from reflection import make

import keras_l2l
from keras_l2l import evaluation
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.evaluation import proposed_updates
from keras_l2l.tasks.base import split_seed

RNG = np.random.default_rng(0)
LENGTH = 12
TOKENS = RNG.integers(0, 30, size=(40, 6))
SERIES = RNG.normal(size=(40, 6, 3)).astype("float32")
IMAGES = RNG.normal(size=(40, 6, 6, 2)).astype("float32")
LABELS = RNG.integers(0, 3, size=40)


def sequential(inputs, *inner):
    """Returns a classifier of what some layers make of its inputs."""
    head = [layers.Flatten(), layers.Dense(3)]
    return keras.Sequential([inputs, *inner, *head])


def shared_embedding():
    """A language model whose output layer is its embedding, in two places."""
    tokens = keras.Input((6,), dtype="int32")
    embedding = layers.Embedding(30, 4)
    first, second = embedding(tokens[:, :3]), embedding(tokens[:, 3:])
    hidden = layers.Flatten()(layers.Concatenate()([first, second]))
    return keras.Model(tokens, layers.Dense(3)(hidden))


class UnusedVariable(layers.Layer):
    def build(self, shape):
        self.unused = self.add_weight(shape=(3,))

    def call(self, inputs):
        return inputs


# Inputs and a function that makes a model, of every kind of gradient.
MODELS = {
    "embedding": (
        TOKENS,
        lambda: sequential(
            keras.Input((6,), dtype="int32"), layers.Embedding(30, 4)
        ),
    ),
    "shared_embedding": (TOKENS, shared_embedding),
    "frozen_layer": (
        SERIES,
        lambda: sequential(
            keras.Input((6, 3)),
            layers.Dense(4, trainable=False),
            layers.Dense(5, activation="relu"),
        ),
    ),
    "dead_inputs": (
        SERIES,
        lambda: sequential(
            keras.Input((6, 3)), layers.Rescaling([1.0, 0.0, 0.0])
        ),
    ),
    "unused_variable": (
        SERIES,
        lambda: sequential(keras.Input((6, 3)), UnusedVariable()),
    ),
    "dense_of_rank_3": (
        SERIES,
        lambda: sequential(
            keras.Input((6, 3)), layers.Dense(4, activation="relu")
        ),
    ),
    "conv_and_batch_norm": (
        IMAGES,
        lambda: sequential(
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
        ),
    ),
    "gru": (SERIES, lambda: sequential(keras.Input((6, 3)), layers.GRU(4))),
}
# One of each kind of gradient: sparse ones of two places, none at all, zeros,
# and those of a layer with a state. The others repeat these.
DISTINCT = [
    "shared_embedding",
    "frozen_layer",
    "dead_inputs",
    "unused_variable",
    "conv_and_batch_norm",
]
every_model = pytest.mark.parametrize("model", slow_but(DISTINCT, MODELS))


def task_of(model):
    x, make_model = MODELS[model]
    return tasks.KerasModelTask(
        make_model,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        (x, LABELS),
        batch_size=4,
        name=model,
    )


def unrolled(rule, meta_params, task):
    """Returns the losses of an unroll, on the split and the seed 0 of tests."""
    seed = tf.constant(split_seed("test", 0), tf.int64)
    sampled = task.sample(seed)
    rule = rule.for_num_steps(LENGTH).for_variables(task.variables())
    losses, _ = tf.function(unroll_lib.unroll, autograph=False)(
        rule,
        sampled,
        meta_params,
        unroll_lib.init_carry(rule, sampled, seed),
        sampled.batches("test", seed),
        LENGTH,
    )
    return losses


def assert_same_trajectory(rule, meta_params, task):
    fitted = evaluation.training_curve(
        lambda: keras_l2l.LearnedOptimizer(
            rule=rule.for_num_steps(LENGTH), meta_params=meta_params
        ),
        task,
        LENGTH,
        "test",
        0,
    )
    assert np.ptp(fitted) > 1e-3
    losses = unrolled(rule, meta_params, task)
    np.testing.assert_allclose(losses, fitted, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@every_model
def test_unroll_is_fit_with_the_default(model):
    preset = presets.resolve(None, None)
    assert_same_trajectory(
        uncompiled(preset.rule), preset.meta_params, task_of(model)
    )


@every_rule
def test_unroll_is_fit_with_every_rule(rule):
    rule = make(rule)
    if type(rule) is rules.Partition:
        # By names that do not depend on how many models were made before.
        rule = rules.Partition(
            [("embeddings", rules.Momentum())], rules.CoordinatewiseLSTM((3,))
        )
    meta_params = rule.init_meta_params(0)
    assert_same_trajectory(rule, meta_params, task_of("embedding"))


def test_unroll_is_fit_where_means_are_of_a_sample():
    # Enough elements for a program and a sample of their own, and for blocks
    # of others.
    task = tasks.KerasModelTask(
        lambda: keras.Sequential(
            [
                keras.Input((100,)),
                layers.Dense(500, activation="tanh"),
                layers.Dense(90),
                layers.Dense(3),
            ]
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        (RNG.normal(size=(40, 100)).astype("float32"), LABELS),
        batch_size=4,
    )
    rule = rules.MomentumMixture()
    assert_same_trajectory(rule, rule.init_meta_params(0), task)


@pytest.mark.parametrize(
    "name",
    # The default is above, and two have the rule of the quadratics' one.
    slow_but(
        ["l2l_patches_conv", "l2l_quadratics"],
        keras_l2l.LearnedOptimizer.presets,
    ),
)
def test_unroll_is_fit_with_every_preset(name):
    preset = presets.load_preset(name)
    task = task_of("embedding")
    assert_same_trajectory(uncompiled(preset.rule), preset.meta_params, task)


@every_model
def test_updates_are_proposed_for_every_model(model):
    rule = uncompiled(rules.CoordinatewiseLSTM((3,)))
    found = proposed_updates.proposed_updates(
        rule, rule.init_meta_params(0), task_of(model), (0, 2), points=3
    )
    for panel in found["panels"][0]:
        assert np.isfinite(panel["learned"]).all()
        assert len(set(panel["learned"])) == 3
