"""The state of a meta-training run, and one meta-step of it."""

import functools
import itertools
import typing

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.meta_training import validation as validation_lib
from keras_l2l.meta_training.checkpoints import CheckpointError
from keras_l2l.meta_training.curriculum import EpisodeLengths


class MetaStep(typing.NamedTuple):
    """Result of one meta-step.

    Attributes:
        meta_loss: Float, mean over the meta-batch.
        meta_gradient_norm: Float, before it is clipped.
        seeds: List of ints, the seeds of the episodes.
        finite: Bool; if False, nothing has changed.
        stop: Bool, whether a worker was asked to stop before it.
    """

    meta_loss: float
    meta_gradient_norm: float
    seeds: list
    finite: bool
    stop: bool


class MetaRun:
    """Meta-parameters, meta-optimizer and episodes of a run.

    Args:
        options: `RunOptions`. On each replica, as many episodes of a meta-batch
            are of every task.
        replicas: `Replicas`, which the episodes are divided over. Everything
            else is the same in every worker process.
        estimators: List of `GradientEstimator`, one for each task, all of one
            rule and horizon.
        validation: `keras_l2l.meta_training.validation.ValidationEpisodes`;
            `None` for a run that is not validated.
        meta_params: Nest of tensors to start from; `None` draws them.

    Attributes:
        replicas, estimators: As given.
        best: Nest of tensors, the best meta-parameters validated so far.
        best_loss: Float, their validation loss.
    """

    def __init__(
        self, options, replicas, estimators, validation, meta_params=None
    ):
        self.replicas = replicas
        self.estimators = estimators
        self._validation = validation
        self._lengths = EpisodeLengths(
            options.curriculum,
            options.horizon,
            options.estimator.unroll_length,
            options.meta_steps,
            options.seed,
        )
        self._episode_clipnorm = options.meta_optimizer.episode_clipnorm
        self._meta_optimizer = keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                options.meta_optimizer.learning_rate, options.meta_steps
            ),
            global_clipnorm=options.meta_optimizer.clipnorm,
        )
        self._meta_batch_size = options.meta_batch_size
        self._seed = options.seed
        # For each place in the meta-batch, the number of its episode and what
        # is left of it.
        self._numbers = [-1] * self._meta_batch_size
        self._unrolls_left = [0] * self._meta_batch_size
        self._episodes = []
        if meta_params is None:
            meta_params = estimators[0].rule.init_meta_params(self._seed)
        self._structure = meta_params
        self._variables = [
            keras.Variable(value) for value in tf.nest.flatten(meta_params)
        ]
        self._meta_optimizer.build(self._variables)
        self.best, self.best_loss = self.meta_params(), float("inf")

    def meta_params(self):
        """Returns the meta-parameters, a nest of tensors."""
        return tf.nest.pack_sequence_as(
            self._structure,
            [tf.identity(v.value) for v in self._variables],
        )

    def meta_step(self, meta_step, stop=False):
        """Takes one meta-step, if loss and gradient turn out finite.

        Args:
            meta_step: Int, how many were taken before.
            stop: Bool, whether this worker was asked to stop; all will know.

        Returns:
            `MetaStep`.
        """
        self._start_episodes(meta_step)
        with self.replicas.answering():
            gradient, meta_loss, norm, stop, episodes = self._estimate(
                self._episodes, tf.constant(meta_step), tf.constant(float(stop))
            )
        meta_loss, norm = float(meta_loss), float(norm)
        finite = bool(np.isfinite(meta_loss) and np.isfinite(norm))
        if finite:
            self._apply(gradient)
            self._episodes = episodes
            self._unrolls_left = [left - 1 for left in self._unrolls_left]
        return MetaStep(meta_loss, norm, self._seeds(), finite, float(stop) > 0)

    def losses(self, meta_step):
        """Returns a dict from each episode's seed to its next losses.

        Those of the inner steps that the meta-step unrolls, as lists.
        """
        self._start_episodes(meta_step)
        meta_params = self.meta_params()
        return {
            seed: tf.function(validation_lib.losses, autograph=False)(
                estimator.rule,
                estimator.task,
                estimator.episode_of(episode),
                meta_params,
                estimator.unroll_length,
                "train",
            )
            .numpy()
            .tolist()
            for seed, (estimator, episode) in zip(
                self._seeds(), self._by_estimator(self._episodes), strict=True
            )
        }

    def abandon_episodes(self):
        """Lets the next meta-step start with fresh episodes."""
        self._unrolls_left = [0] * self._meta_batch_size

    def keep_if_best(self, loss):
        """Keeps the meta-parameters if their validation loss is the lowest."""
        if loss < self.best_loss:
            self.best, self.best_loss = self.meta_params(), loss

    def _seeds(self):
        # Runs with different seeds share no episode.
        return [self._seed * 2**32 + i for i in self._indices()]

    def _indices(self):
        """Returns the list of the episodes' indices in the run, from 0 on."""
        return [
            number * self._meta_batch_size + place
            for place, number in enumerate(self._numbers)
        ]

    def _start_episodes(self, meta_step):
        """Starts episodes in the places where they have ended."""
        if all(self._unrolls_left):
            return
        going_on = list(map(bool, self._unrolls_left))
        # Gathered only where it must be: others start with the meta-batch.
        old = self._gathered() if any(going_on) else going_on
        self._numbers = [
            number if goes_on else number + 1
            for number, goes_on in zip(self._numbers, going_on, strict=True)
        ]
        self._unrolls_left = [
            left or self._lengths.unrolls(index, meta_step)
            for left, index in zip(
                self._unrolls_left, self._indices(), strict=True
            )
        ]
        new = self._new_episodes()
        self._episodes = self.replicas.divide(
            lambda item: item[0] or item[1](),
            [
                (e if on else None, make)
                for e, on, make in zip(old, going_on, new, strict=True)
            ],
        )

    def _new_episodes(self):
        """Returns a list of functions, each of which makes an episode."""
        return [
            functools.partial(
                estimator.init,
                seed,
                left * estimator.unroll_length,
                self._lengths.is_told(index),
            )
            for (estimator, seed), left, index in zip(
                self._by_estimator(self._seeds()),
                self._unrolls_left,
                self._indices(),
                strict=True,
            )
        ]

    def _by_estimator(self, items):
        """Yields pairs of an estimator and the item that it is for."""
        return zip(itertools.cycle(self.estimators), items, strict=False)

    @tf.function(autograph=False)
    def _estimate(self, episodes, seed, stop):
        meta_params = self.meta_params()

        def of_replica(episodes):
            # Calls of one traced function: they run side by side on the
            # cores, and the trace does not grow with the meta-batch.
            gradients, meta_losses, episodes = zip(
                *[
                    estimator.estimate(meta_params, episode, seed)
                    for estimator, episode in self._by_estimator(episodes)
                ],
                strict=True,
            )
            gradient = [
                tf.add_n(g)
                for g in zip(*map(self._clipped, gradients), strict=True)
            ]
            meta_loss = tf.cast(tf.add_n(meta_losses), gradient[0].dtype)
            asked = tf.cast(stop, gradient[0].dtype)
            return [*gradient, meta_loss, asked], list(episodes)

        (*gradient, meta_loss, stop), episodes = self.replicas.sum(
            of_replica, episodes
        )
        gradient = [g / self._meta_batch_size for g in gradient]
        return (
            gradient,
            meta_loss / self._meta_batch_size,
            tf.linalg.global_norm(gradient),
            stop,
            episodes,
        )

    def _clipped(self, gradient):
        """Returns the list of tensors of one episode's meta-gradient."""
        flat = tf.nest.flatten(gradient)
        if self._episode_clipnorm is None:
            return flat
        return tf.clip_by_global_norm(flat, self._episode_clipnorm)[0]

    @tf.function(autograph=False)
    def _apply(self, gradient):
        self._meta_optimizer.apply(gradient, self._variables)

    def validate(self):
        """Returns the losses of all validation episodes, `[n, horizon]`."""
        return self._validation.losses(self.meta_params())

    def state(self):
        """Returns `(arrays, progress)`: all that `restore` needs."""
        arrays = {
            name: np.asarray(tf.cast(tensor, _stored_dtype(tensor)))
            for name, tensor in self._tensors().items()
        }
        return arrays, {
            "numbers": self._numbers,
            "unrolls_left": self._unrolls_left,
            "best_loss": self.best_loss,
        }

    def restore(self, arrays, progress):
        """Restores what `state` returned.

        Raises:
            CheckpointError: if it is of another run, by its names and shapes.
        """
        self._numbers = progress["numbers"]
        self._unrolls_left = progress["unrolls_left"]
        if any(self._unrolls_left) and not self._episodes:
            # For their shapes.
            self._episodes = self.replicas.divide(
                lambda make: make(), self._new_episodes()
            )
        tensors = self._tensors()
        _check_like(tensors, arrays)
        restored = [
            tf.cast(arrays[name], tensor.dtype)
            for name, tensor in tensors.items()
        ]
        variables = [*self._variables, *self._meta_optimizer.variables]
        for variable in variables:
            variable.assign(restored.pop(0))
        size = len(tf.nest.flatten(self.best))
        self.best = tf.nest.pack_sequence_as(self.best, restored[:size])
        if any(self._unrolls_left):
            episodes = tf.nest.pack_sequence_as(
                self._gathered(), restored[size:]
            )
            self._episodes = self.replicas.divide(lambda e: e, episodes)
        self.best_loss = progress["best_loss"]

    def _gathered(self):
        return self.replicas.gather(self._episodes, len(self.estimators))

    def _tensors(self):
        """Returns a dict of all that changes, variables first."""
        nests = {
            "meta_params": self._variables,
            "meta_optimizer": self._meta_optimizer.variables,
            "best": self.best,
        }
        # Between episodes there are none to keep, nor to send around.
        if any(self._unrolls_left):
            nests["episodes"] = self._gathered()
        return {
            f"{name}/{i}": tf.convert_to_tensor(leaf)
            for name, nest in nests.items()
            for i, leaf in enumerate(tf.nest.flatten(nest))
        }


def _stored_dtype(tensor):
    # NumPy has no bfloat16 of its own; float32 holds it exactly.
    return tf.float32 if tensor.dtype == tf.bfloat16 else tensor.dtype


def _check_like(tensors, arrays):
    expected = {
        n: (tuple(t.shape), _stored_dtype(t).name) for n, t in tensors.items()
    }
    received = {n: (a.shape, a.dtype.name) for n, a in arrays.items()}
    for name in sorted(set(expected) | set(received)):
        if expected.get(name) != received.get(name):
            raise CheckpointError(
                "A checkpoint must hold the tensors of this run. Received: "
                f"{name} of shape and dtype {received.get(name)}, here "
                f"{expected.get(name)}. Resume with the rule and the task "
                "that the run was started with."
            )
