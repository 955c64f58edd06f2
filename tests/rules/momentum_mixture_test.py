import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_close
from conftest import dense_model
from keras import ops

import keras_l2l
from keras_l2l import rules
from keras_l2l.rules import blockwise
from keras_l2l.rules import momentum_mixture
from keras_l2l.rules.base import StepInputs

RULE = rules.MomentumMixture()
META_PARAMS = RULE.init_meta_params(0)


def _step(rule, meta_params, inputs, state):
    return rule.step(meta_params, StepInputs(*inputs), state)


_traced = tf.function(_step, autograph=False)


def steps(
    gradients, params, rule=RULE, num_steps=None, meta_params=META_PARAMS
):
    """Returns the updates of each of some steps, with fixed parameters."""
    state, found = rule.init_state([p.shape for p in params]), []
    step = _traced if len(gradients) > 10 else _step
    for t, gradient in enumerate(gradients):
        inputs = gradient, params, None, tf.constant(t), None, num_steps
        updates, state = step(rule, meta_params, inputs, state)
        found.append([ops.convert_to_numpy(u) for u in updates])
    return found


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_signals_are_in_the_order_of_their_names():
    measured = {
        "fast": 0.5,
        "slow": 0.3,
        "scale": 0.2,
        "rms": 0.4,
        "moving": 0.9,
        "share": 0.6,
        "square": 0.01,
        "peak": 0.09,
    }
    blocks = blockwise.Joining([(6, 4), (5,)]).blocks(np.float32(29))
    found = momentum_mixture._signals(
        *(blocks, tf.constant(30.0), tf.constant(100.0), tf.constant(20.0)),
        {name: tf.fill([2], value) for name, value in measured.items()},
    )
    expected = {
        "one": 1,
        "length": np.log(100 / 500) / 1.5,
        "unknown_length": 0,
        "steps": np.log(30 / 100) / 3,
        "progress": 0.3 - 0.5,
        "epochs": np.square(np.log(1 + 5) / 3),
        "unknown_epochs": 0,
        "per_epoch": np.log(1 + 20 / 40),
        "agreement_fast": np.log(0.5) / 2 + 1,
        "agreement_slow": np.log(0.3) / 2 + 1.5,
        "scale": np.log(0.2) + 2,
        "growth": np.log(2),
        "vector": [0, 1],
        "inputs": [(np.log(6) - 3) / 2, -1.5],
        "outputs": [(np.log(4) - 3) / 2, -1.5],
        "moving": np.log(0.9) / 2,
        "active": np.log(0.6 / 0.9) / 2,
        "fall": np.log(0.01 / 0.9 / 0.09) / 2,
        "capacity": (np.log(29 / 20) - 5.5) / 2,
        "unknown_fall": 0,
    }
    assert tuple(expected) == momentum_mixture.SIGNALS
    for name, row in zip(expected, found, strict=True):
        np.testing.assert_allclose(
            row, np.full(2, expected[name]), rtol=1e-5, err_msg=name
        )


def test_a_memory_without_end_is_no_division_by_zero():
    decays = dict.fromkeys(META_PARAMS["decays"], ops.convert_to_tensor(30.0))
    gradients = [[normal(6, 4, seed=t)] for t in range(3)]
    for update in steps(
        gradients,
        [normal(6, 4, seed=9)],
        meta_params={**META_PARAMS, "decays": decays},
    ):
        assert np.isfinite(update).all() and np.any(update)


def test_the_first_step_is_against_the_gradient_and_of_known_size():
    param, gradient = normal(30, 20, seed=1), normal(30, 20)
    update = steps([[gradient]], [param])[0][0]
    # Where the gradient is small, weight decay is more than that.
    assert np.sign(update * gradient).mean() < -0.9
    assert 1e-5 < np.sqrt(np.mean(update**2)) < 0.01


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_scale_of_gradients_does_not_matter(factor):
    params = [normal(6, 4, seed=1), normal(4, seed=2)]
    gradients = [
        [normal(6, 4, seed=t), normal(4, seed=-t + 9)] for t in range(5)
    ]
    expected = steps(gradients, params)
    scaled = [[factor * g for g in step] for step in gradients]
    assert_close(steps(scaled, params)[-1], expected[-1], rtol=2e-3)


def test_updates_vanish_at_the_end_of_a_known_length():
    params = [normal(6, 4)]
    gradients = [[normal(6, 4, seed=7)]] * 100
    told = [
        np.abs(u[0]).mean()
        for u in steps(gradients, params, RULE.for_num_steps(100))
    ]
    assert told[0] < 0.3 * max(told)
    assert told[-1] < 0.01 * max(told)
    untold = [np.abs(u[0]).mean() for u in steps(gradients, params)]
    assert untold[-1] > 0.3 * max(untold)
    # In meta-training, the length is that of the episode.
    inputs = steps(gradients, params, num_steps=100)
    np.testing.assert_allclose(
        np.abs(inputs[-1][0]).mean(), told[-1], rtol=1e-5
    )


def test_a_late_first_gradient_gives_a_step_like_an_early_one():
    late, early = np.zeros((4, 8), "float32"), np.zeros((4, 8), "float32")
    early[:2] = normal(2, 8)
    late[2:] = early[:2]
    params = [np.zeros((4, 8), "float32")]
    both = early + late
    first = steps([[both]], params)[0][0]
    found = steps([[early]] * 40 + [[both]], params)[-1][0]
    np.testing.assert_allclose(
        np.abs(found[2:]).mean() / np.abs(found[:2]).mean(), 1, rtol=0.05
    )
    np.testing.assert_allclose(
        np.abs(first[2:]).mean() / np.abs(first[:2]).mean(), 1, rtol=0.05
    )


def test_with_full_caution_nothing_moves_against_its_gradient():
    constants = {**META_PARAMS["constants"], "caution": ops.ones(())}
    # Of the last two, the averages still have another sign.
    gradients = [[np.array(g, "float32")] for g in ([1, -1, 1, -1],) * 5]
    gradients.append([np.array([1, -1, -0.01, 0.01], "float32")])
    update = steps(
        gradients,
        [np.zeros(4, "float32")],
        meta_params={**META_PARAMS, "constants": constants},
    )[-1][0]
    np.testing.assert_array_equal(np.sign(update), [-1, 1, 0, 0])


def test_parameters_without_a_gradient_rest():
    gradient = np.zeros((4, 8), "float32")
    gradient[0] = 1
    update = steps([[gradient]] * 3, [np.ones((4, 8), "float32")])[-1][0]
    assert (update[1:] == 0).all()
    assert (update[0] != 0).all()


# By itself, and joined with another: of both, means are of a sample.
@pytest.mark.parametrize("others", [[], [(3,), (128, 128)]])
def test_rows_that_no_sample_has_move_as_others(others):
    shapes, rows = [*others, (2**15 - 64 if others else 2**17, 4)], 8
    gradients = [np.zeros(shape, "float32") for shape in shapes]
    sample = blockwise.Joining(shapes).blocks(1.0).sample
    start = (1 + 256) * 64 if others else 0
    # Lines of 16 elements are four rows.
    sampled = {
        4 * int(line) - start // 4 + i for line in sample for i in range(4)
    }
    unsampled = [r for r in range(1000, 9000) if r not in sampled][:rows]
    gradients[-1][unsampled] = normal(rows, 4)
    params = [np.zeros(shape, "float32") for shape in shapes]
    updates = [u[-1] for u in steps([gradients] * 5, params)]
    small = [
        u[0]
        for u in steps(
            [[normal(rows, 4)]] * 5, [np.zeros((rows, 4), "float32")]
        )
    ]
    for update, expected in zip(updates, small, strict=True):
        ratio = np.abs(update[unsampled]).max() / np.abs(expected).max()
        # A sparse tensor takes other steps than a dense one.
        assert 0.1 < ratio < 3
        update[unsampled] = 0
        assert not update.any()


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e20])
@pytest.mark.parametrize("frozen", [(3,), (128, 200)])
def test_a_parameter_that_is_not_finite_spoils_no_other(value, frozen):
    params = [normal(30, 20), np.ones(frozen, "float32")]
    gradients = [normal(30, 20, seed=1), np.zeros(frozen, "float32")]
    expected = steps([gradients], params)[0][0]
    params[1].flat[1] = value
    update, rest = steps([gradients], params)[0]
    np.testing.assert_array_equal(update, expected)
    assert not rest.any()


def sensitive_to(signal, weight):
    """Returns meta-parameters whose rate depends on one signal alone."""
    meta_params = keras.tree.map_structure(ops.copy, META_PARAMS)
    rate = np.zeros(len(momentum_mixture.SIGNALS), "float32")
    rate[0] = np.log(0.001)
    rate[momentum_mixture.SIGNALS.index(signal)] = weight
    meta_params["controls"]["rate"] = ops.convert_to_tensor(rate)
    # Squares are averaged over ten steps.
    meta_params["decays"]["square"] = ops.convert_to_tensor(np.float32(2.3))
    return meta_params


def ratio_of_sizes(gradients, signal, weight):
    """Returns by what an update is larger if the rate depends on a signal."""
    params = [np.zeros(gradients[0][0].shape, "float32")]
    with_signal, without = (
        np.abs(steps(gradients, params, meta_params=m)[-1][0]).mean()
        for m in (sensitive_to(signal, weight), sensitive_to(signal, 0.0))
    )
    return with_signal / without


def test_the_rate_follows_gradients_that_fall():
    gradients = [[normal(20, 10, seed=t)] for t in range(20)]
    assert ratio_of_sizes(gradients, "fall", 0.2) > 0.9
    gradients += [[0.01 * normal(20, 10, seed=t)] for t in range(100)]
    np.testing.assert_allclose(
        ratio_of_sizes(gradients, "fall", 0.2), 0.01**0.2, rtol=0.1
    )


def test_the_rate_follows_gradients_apart_where_the_length_is_unknown():
    gradients = [[normal(20, 10, seed=t)] for t in range(20)]
    gradients += [[0.01 * normal(20, 10, seed=t)] for t in range(100)]
    params = [np.zeros((20, 10), "float32")]

    def ratio(rule):
        with_signal, without = (
            np.abs(steps(gradients, params, rule, meta_params=m)[-1][0]).mean()
            for m in (
                sensitive_to("unknown_fall", 0.2),
                sensitive_to("unknown_fall", 0.0),
            )
        )
        return with_signal / without

    unknown, known = rules.MomentumMixture(), rules.MomentumMixture(1000)
    np.testing.assert_allclose(ratio(unknown), 0.01**0.2, rtol=0.1)
    assert ratio(known) == 1


def test_the_rate_follows_the_share_of_gradients_that_are_not_0():
    def gradient(t, rows):
        dense = normal(20, 10, seed=t)
        dense[np.arange(20) % rows != t % rows] = 0
        return [dense]

    for rows in (1, 4):
        gradients = [gradient(t, rows) for t in range(100)]
        np.testing.assert_allclose(
            ratio_of_sizes(gradients, "active", 0.2),
            np.sqrt(1 / rows) ** 0.2,
            rtol=0.02,
        )


def test_sparse_gradients_do_not_go_against_the_slow_momentum():
    def moved(slow, rows):
        """Returns the last update, if a step has gradients of some rows."""
        weights = {**META_PARAMS["controls"]}
        weights["slow"] = slow * np.eye(len(weights["slow"]))[0]
        gradients = [np.zeros((8, 4), "float32") for _ in range(40)]
        for t, gradient in enumerate(gradients):
            for i in range(rows):
                gradient[(t + i) % 8] = 1 + 0.1 * normal(4, seed=t)
        meta_params = {
            **META_PARAMS,
            "controls": keras.tree.map_structure(
                lambda w: ops.cast(w, "float32"), weights
            ),
        }
        found = steps(
            [[g] for g in gradients],
            [np.zeros((8, 4), "float32")],
            meta_params=meta_params,
        )
        return found[-1][0]

    least = momentum_mixture._LEAST_SLOW
    np.testing.assert_array_equal(moved(-0.9, rows=1), moved(least, rows=1))
    assert abs(moved(-0.9, rows=6) - moved(least, rows=6)).max() > 1e-5
    # More of it than the least is a matter of learning.
    assert abs(moved(0.9, rows=1) - moved(least, rows=1)).max() > 1e-5


def test_vectors_have_no_weight_decay():
    gradients = [
        [np.full((8, 4), 1e-3, "float32"), np.full(4, 1e-3, "float32")]
    ]
    small, large = (
        steps(gradients, [np.full((8, 4), x), np.full(4, x)])[0]
        for x in (np.float32(0.1), np.float32(0.2))
    )
    np.testing.assert_allclose(small[1], large[1], rtol=1e-5)
    assert np.abs(large[0]).mean() > 1.01 * np.abs(small[0]).mean()


def shipped_decay(gradients, steps_per_epoch=None):
    """Returns the weight decay of the default, relative to its step."""
    preset = keras_l2l.presets.load_preset("l2l_varied")
    rule = preset.rule.for_num_steps(1000, steps_per_epoch)
    shape = gradients[0][0].shape
    without, with_decay = (
        steps(gradients, [p], rule, meta_params=preset.meta_params)[-1][0]
        for p in (np.zeros(shape, "float32"), np.ones(shape, "float32"))
    )
    # Of a large tensor, both are larger.
    scale = np.sqrt(np.mean(with_decay**2) / np.mean(without**2))
    return np.mean(with_decay - scale * without) / np.abs(with_decay).mean()


def test_shipped_decay_is_for_few_examples_and_gradients_that_disagree():
    noise = [[normal(100, 60, seed=t)] for t in range(60)]
    agreeing = [[normal(100, 60, seed=99) + 0.1 * n[0]] for n in noise]
    few, many = shipped_decay(noise, 10), shipped_decay(noise, 1000)
    assert few < 3 * many < 0
    assert few < 3 * shipped_decay(agreeing, 10)
    # What is not known is not taken for few examples.
    assert few < 3 * shipped_decay(noise)
    # A small network cannot learn its examples by heart.
    small = [[normal(10, 60, seed=t)] for t in range(60)]
    assert few < 3 * shipped_decay(small, 10)


def test_capacity_is_that_of_all_tensors():
    def signal(shapes, steps_per_epoch):
        """Returns the logarithm of the rate, if it is that signal's."""
        rule = rules.MomentumMixture(1000, steps_per_epoch)
        gradients = [[normal(*shape) for shape in shapes]]
        with_signal, without = (
            steps(gradients, gradients[0], rule, meta_params=m)[0][0]
            for m in (sensitive_to("capacity", 0.1), sensitive_to("one", -6.9))
        )
        return np.log(np.abs(with_signal).mean() / np.abs(without).mean())

    few = signal([(4, 8), (8,)], 10)
    # The logarithm of parameters by steps, of which 5.5 is enough.
    np.testing.assert_allclose(
        few - signal([(40, 80)], 10), 0.05 * (np.log(4) - 5.5), rtol=1e-2
    )
    # The first tensor is a part of more, or the epoch is not known.
    for enough in (signal([(4, 8), (40, 80)], 10), signal([(4, 8)], None)):
        np.testing.assert_allclose(enough, signal([(40, 80)], 10), atol=1e-5)


def test_examples_that_are_seen_often_are_learned_more_slowly():
    params, gradients = [normal(6, 4)], [[normal(6, 4, seed=7)]] * 30

    def size(num_steps, steps_per_epoch):
        rule = rules.MomentumMixture(num_steps, steps_per_epoch)
        return np.abs(steps(gradients, params, rule)[-1][0]).mean()

    once = size(100, 100)
    assert size(100, 5) < 0.8 * once
    assert size(100, 0.5) < 0.5 * size(100, 5)
    # What is not known is as for some epochs.
    assert size(100, 0.5) < size(100, None) < once
    # Of a training of unknown length, nothing is known.
    assert size(None, 5) == size(None, None)


@pytest.mark.parametrize("steps_per_epoch", [0, -1, "5", float("nan")])
def test_a_wrong_epoch_is_refused(steps_per_epoch):
    optimizer = keras_l2l.LearnedOptimizer()
    for tell in (rules.MomentumMixture, optimizer.set_num_steps):
        with pytest.raises(ValueError, match="steps_per_epoch"):
            tell(9, steps_per_epoch)


@pytest.mark.parametrize("num_steps", [0, 2.5, "100"])
def test_a_wrong_length_is_refused(num_steps):
    with pytest.raises(ValueError, match="num_steps"):
        rules.MomentumMixture(num_steps)
    with pytest.raises(ValueError, match="num_steps"):
        keras_l2l.LearnedOptimizer(num_steps=num_steps)


def test_the_optimizer_tells_the_rule_the_length():
    optimizer = keras_l2l.LearnedOptimizer(
        rule=RULE, meta_params=META_PARAMS, num_steps=40
    )
    assert optimizer.rule.num_steps == 40
    model = dense_model(200)
    model.compile(optimizer, loss="mse")
    x, y = normal(80, 3), normal(80, 200)
    history = model.fit(x, y, batch_size=20, epochs=10, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    before = model.get_weights()[0]
    model.fit(x, y, batch_size=20, epochs=1, verbose=0)
    # The training is over: its updates are close to 0.
    assert np.abs(model.get_weights()[0] - before).max() < 1e-6
