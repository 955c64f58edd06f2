"""Reinforcement learning in a custom loop: REINFORCE on CartPole.

Trains a policy with Adam and with the default, each at three learning rates and
with ten seeds, and prints the mean return of the episodes in between. The
number of updates is told to the default. Needs gymnasium:

  pip install gymnasium
  python examples/cartpole.py
"""

import gymnasium
import keras
import numpy as np
import tensorflow as tf

import keras_l2l

UPDATES, EPISODES, SEEDS = 100, 4, 10
DISCOUNT = 0.99
OPTIMIZERS = {
    # Keras' example "Actor Critic Method" has 0.01.
    **{
        f"Adam at {rate}": lambda rate=rate: keras.optimizers.Adam(rate)
        for rate in (0.001, 0.01, 0.03)
    },
    **{
        f"LearnedOptimizer at {rate}": lambda rate=rate: (
            keras_l2l.LearnedOptimizer(learning_rate=rate, num_steps=UPDATES)
        )
        for rate in (1.0, 0.3, 0.1)
    },
}


def play(env, model, rng):
    """Returns the observations, actions and rewards of one episode."""
    (w1, b1), (w2, b2) = (layer.get_weights() for layer in model.layers)
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    steps, ended = [], False
    while not ended:
        # NumPy is fast for one observation.
        logits = np.tanh(observation @ w1 + b1) @ w2 + b2
        action = int(rng.random() < 1 / (1 + np.exp(logits[0] - logits[1])))
        after, reward, terminated, truncated, _ = env.step(action)
        steps.append((observation, action, reward))
        observation, ended = after, terminated or truncated
    return map(np.array, zip(*steps, strict=True))


def returns(rewards):
    """Returns the discounted sum of the rewards from each step on."""
    found, total = np.zeros(len(rewards), "float32"), 0.0
    for t in reversed(range(len(rewards))):
        found[t] = total = rewards[t] + DISCOUNT * total
    return found


@tf.function(reduce_retracing=True)
def gradients_of(model, observations, actions, advantages):
    with tf.GradientTape() as tape:
        logits = model(observations)
        losses = keras.ops.sparse_categorical_crossentropy(
            actions, logits, from_logits=True
        )
        loss = keras.ops.mean(losses * advantages)
    return tape.gradient(loss, model.trainable_variables)


def train(make_optimizer, seed):
    """Returns the mean return of the episodes before each update."""
    keras.utils.set_random_seed(seed)
    rng, env = np.random.default_rng(seed), gymnasium.make("CartPole-v1")
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(2),
        ]
    )
    optimizer, curve = make_optimizer(), []
    for _ in range(UPDATES):
        observations, actions, rewards = zip(
            *(play(env, model, rng) for _ in range(EPISODES)), strict=True
        )
        curve.append(np.mean([r.sum() for r in rewards]))
        gains = np.concatenate([returns(r) for r in rewards])
        advantages = (gains - gains.mean()) / (gains.std() + 1e-6)
        gradients = gradients_of(
            model,
            tf.constant(np.concatenate(observations), tf.float32),
            tf.constant(np.concatenate(actions), tf.int32),
            tf.constant(advantages, tf.float32),
        )
        optimizer.apply(gradients, model.trainable_variables)
    return np.array(curve)


def main():
    parts = 4
    print("mean return of updates, and the least and the most of ten seeds:")
    header = [
        f"{UPDATES // parts * i + 1}-{UPDATES // parts * (i + 1)}"
        for i in range(parts)
    ]
    print(f"{'':24}" + "".join(f"{h:>16}" for h in header))
    for name, make_optimizer in OPTIMIZERS.items():
        curves = np.stack(
            [train(make_optimizer, seed) for seed in range(SEEDS)]
        )
        means = curves.reshape(SEEDS, parts, -1).mean(axis=-1)
        cells = [
            f"{m.mean():.0f} ({m.min():.0f}-{m.max():.0f})" for m in means.T
        ]
        print(
            f"{name:24}" + "".join(f"{cell:>16}" for cell in cells), flush=True
        )


if __name__ == "__main__":
    main()
