"""One contract for all tasks and estimators, found by reflection."""

import keras
import numpy as np
import tensorflow as tf
from conftest import leaves
from reflection import every_estimator
from reflection import every_task
from reflection import make

from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.utils import files


@every_task
def test_task_contract(task):
    family = make(task)
    seed = tf.constant(3, tf.int64)
    task = family.sample(seed)
    assert isinstance(family.name, str) and isinstance(task, tasks.Task)
    params = task.init_params(seed)
    batch = task.batches("train", seed)(tf.constant(0, tf.int64))
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss, _ = task.stateful_loss(
            params, task.init_non_trainable(seed), batch
        )
    assert loss.shape == ()
    assert np.isfinite(loss)
    for gradient, param in zip(
        tape.gradient(loss, params), params, strict=True
    ):
        assert gradient.shape == param.shape
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@every_task
def test_same_seed_same_task(task):
    def everything(family, seed):
        seed = tf.constant(seed, tf.int64)
        task = family.sample(seed)
        batches = task.batches("train", seed)
        params = task.init_params(seed)
        losses = [task.loss(params, batches(tf.constant(t))) for t in (0, 5)]
        return leaves((params, losses))

    first, again = (everything(make(task), 4) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = everything(make(task), 5)
    assert any(
        np.abs(a - b).max() > 0 for a, b in zip(first, other, strict=True)
    )


@every_task
def test_task_is_described_as_json(task, tmp_path):
    family = make(task)
    files.write_json(tmp_path / "task.json", family.get_config())
    assert files.read_json(tmp_path / "task.json")


@every_estimator
def test_estimator_contract(estimator):
    estimator = make(estimator).bind(rules.SGD(), tasks.Quadratics(3), 6)
    meta_params = estimator.rule.init_meta_params(0)
    results = []
    for _ in range(2):
        episode = estimator.init(5)
        gradient, meta_loss, episode = estimator.estimate(
            meta_params, episode, tf.constant(0)
        )
        keras.tree.assert_same_structure(gradient, meta_params)
        assert meta_loss.shape == ()
        carry = estimator.episode_of(episode).carry
        assert int(carry.iteration) == estimator.unroll_length
        results.append(leaves((gradient, meta_loss, episode)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
