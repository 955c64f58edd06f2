"""Trains with the default preset on one Keras backend, for backends_test.

As a script, TensorFlow cannot be imported.
"""

import pathlib
import sys

if __name__ == "__main__":
    sys.modules["tensorflow"] = None

import celo_data
import keras
import numpy as np

import keras_l2l
from keras_l2l import rules
from keras_l2l.presets import celo_weights
from keras_l2l.utils import nests

STEPS = 20
# The rules of the others are of what is trained first and of `mixed`.
PRESETS = ["l2l_networks"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
TOKENS = RNG.integers(0, 5, size=(32, 3))
# Half of the labels are noise, so that the loss stays away from 0: there the
# gradients are all rounding, which the logarithm in the rule magnifies.
Y = np.where(RNG.random(32) < 0.5, X[:, :3].argmax(axis=1), TOKENS[:, 0] % 3)

# One that goes well, and one that does not.
GUARDED = {"good": rules.SGD(10.0), "bad": rules.SGD(1e25)}


def mixed():
    """Returns an optimizer of all LSTM rules, with random meta-parameters."""
    rule = rules.Partition(
        [
            ("conv.*kernel", rules.KernelLSTM((2,), (5, 4))),
            ("embedding", rules.GlobalAveragingLSTM(2, (5, 4))),
            ("bias", rules.CoordinatewiseLSTM((5, 4))),
        ],
        default=rules.NTMBFGS(2, 2, (5, 4)),
    )
    rng, expected = np.random.default_rng(2), rule.init_meta_params(0)
    leaves = [
        0.3 * rng.normal(size=value.shape)
        for _, value in nests.named_leaves(expected)
    ]
    return keras_l2l.LearnedOptimizer(
        0.1, rule, nests.pack_leaves(expected, leaves)
    )


def celos():
    """Returns an optimizer of all that the authors of Celo have published."""
    found = {
        name: celo_weights.read(celo_data.file(name))
        for name in ("celo", "celo_adam", "celo2")
    }
    patterns = {"celo2": "embedding|last", "celo_adam": "bias"}
    rule = rules.Partition(
        [(pattern, found[name][0]) for name, pattern in patterns.items()],
        default=found["celo"][0],
    )
    names = ("member_0", "member_1", "default")
    meta_params = {
        key: found[name][1]
        for key, name in zip(names, [*patterns, "celo"], strict=True)
    }
    return keras_l2l.LearnedOptimizer(
        rule=rule.for_num_steps(STEPS), meta_params=meta_params
    )


def guarded(rule):
    """Returns an optimizer of a rule that Adam stands behind."""
    rule = rules.Guarded(rule, rules.Adam(0.01), patience=15)
    return keras_l2l.LearnedOptimizer(0.1, rule)


def classifier(optimizer=None):
    """Returns a model with dense, convolutional and embedding variables."""
    tokens = keras.Input((3,), dtype="int32", name="tokens")
    features = keras.Input((6,), name="features")
    image = keras.layers.Reshape((3, 2))(features)
    image = keras.layers.Conv1D(4, 2, activation="relu")(image)
    parts = [
        keras.layers.Flatten()(image),
        keras.layers.Flatten()(keras.layers.Embedding(5, 2)(tokens)),
        keras.layers.Dense(8, activation="sigmoid")(features),
    ]
    outputs = keras.layers.Dense(3, name="last")(
        keras.layers.Concatenate()(parts)
    )
    model = keras.Model({"features": features, "tokens": tokens}, outputs)
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            0.1 * rng.normal(size=w.shape).astype("float32")
            for w in model.get_weights()
        ]
    )
    model.compile(
        # Slow enough that one rounding more or less in the weights moves them
        # by 1e-6 in 20 steps; at a learning rate of 1.0 it is 1e-4. Other
        # presets magnify rounding more.
        optimizer
        or keras_l2l.LearnedOptimizer(
            0.1, "l2l_digits_mlp", clipnorm=1.0, weight_decay=0.001
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def train(model):
    """Returns the losses and the final weights of more training."""
    history = model.fit(
        {"features": X, "tokens": TOKENS},
        Y,
        batch_size=len(X),
        epochs=STEPS,
        shuffle=False,
        verbose=0,
    )
    flat = np.concatenate([w.ravel() for w in model.get_weights()])
    return {"losses": history.history["loss"], "weights": flat}


def without_loss(rule):
    """Returns the sizes of a parameter in a custom loop that shows no loss.

    From 1 it comes to where all gradients are noise.
    """
    optimizer, rng = guarded(rule), np.random.default_rng(3)
    variable, sizes = keras.Variable(np.ones(8, "float32")), []
    for _ in range(60):
        value = keras.ops.convert_to_numpy(variable)
        gradient = value + 0.1 * rng.normal(size=8)
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, "float32")], [variable]
        )
        sizes.append(np.abs(value).mean())
    return {"sizes": sizes, "remarks": optimizer.remarks()}


def train_all(output):
    """Writes `model.keras` and what came out, one `.npz` per training."""
    model = classifier()
    np.savez(output / "trained.npz", **train(model))
    np.savez(output / "mixed.npz", **train(classifier(mixed())))
    for name in PRESETS:
        optimizer = keras_l2l.LearnedOptimizer(rule=name)
        np.savez(output / f"{name}.npz", **train(classifier(optimizer)))
    np.savez(output / "celos.npz", **train(classifier(celos())))
    guarded_model = classifier(guarded(GUARDED["bad"]))
    trained = train(guarded_model)
    remarks = guarded_model.optimizer.remarks()
    np.savez(output / "bad.npz", **trained, remarks=remarks)
    for name, rule in GUARDED.items():
        np.savez(output / f"{name}_without_loss.npz", **without_loss(rule))
    model.save(output / "model.keras")
    np.savez(output / "continued.npz", **train(model))


def go_on_from(output, other):
    """Writes what comes out of more training of another's `model.keras`."""
    loaded = keras.models.load_model(other / "model.keras")
    np.savez(output / f"from_{other.name}.npz", **train(loaded))


def main(folder, *others):
    """Trains if the folder is new, and continues from folders of others."""
    if not folder.exists():
        folder.mkdir()
        train_all(folder)
    for other in others:
        go_on_from(folder, other)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
