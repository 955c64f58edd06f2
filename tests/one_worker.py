"""Trains as one of several local workers, for distribution_test.

Arguments: output file, the workers' addresses joined by commas, the index of
this one. A custom loop: Keras' `fit` fails with several workers (issue 20585
of keras), whatever the optimizer.
"""

import json
import os
import sys

import numpy as np

STEPS = 5
X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = X[:, :3].argmax(axis=1)


def main(output, workers, index):
    """Writes the final weights and optimizer variables."""
    workers, index = workers.split(","), int(index)
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
        }
    )
    import tensorflow as tf

    # Before anything else touches TensorFlow's context.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras

    import keras_l2l

    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, activation="sigmoid"),
                keras.layers.Dense(3),
            ]
        )
        optimizer = keras_l2l.LearnedOptimizer(0.1, "l2l_digits_mlp")
        optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="sum"
    )

    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True)) / len(X)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(value, variables), variables)

    @tf.function
    def distributed_step(x, y):
        strategy.run(step, args=(x, y))

    mine = slice(index, None, len(workers))
    for _ in range(STEPS):
        distributed_step(tf.constant(X[mine]), tf.constant(Y[mine]))
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    state = [np.asarray(v) for v in optimizer.variables]
    np.savez(
        output,
        *state,
        weights=weights,
        iterations=optimizer.iterations.numpy(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
