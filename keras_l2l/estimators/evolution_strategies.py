"""Evolution strategies: meta-gradients without backpropagation."""

import dataclasses

import tensorflow as tf

from keras_l2l.estimators import base
from keras_l2l.estimators import meta_loss
from keras_l2l.estimators import unroll as unroll_lib
from keras_l2l.tasks.base import RANDOM
from keras_l2l.tasks.base import random_key


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EvolutionStrategies(base.GradientEstimator):
    """Estimates the gradient of each unroll from losses nearby.

    ```
    noise[i] ~ normal(0, stddev^2), for each pair of particles
    meta_gradient = mean(noise * (meta_loss(meta_params + noise)
                                  - meta_loss(meta_params - noise)))
        / (2 * stddev^2)
    ```

    All particles start an unroll where the unperturbed rule ended the last.
    The estimate is the gradient of truncated backpropagation with second
    derivatives, for a meta-loss blurred by `stddev`. Neither rule nor task
    need be differentiable.

    Args:
        unroll_length, loss_weights, compile_unroll: See
            `keras_l2l.estimators.GradientEstimator`.
        pairs: Int, antithetic pairs of particles, which run side by side.
        stddev: Float, standard deviation of the perturbations.
        held_out: Bool, whether the meta-loss of an unroll is the loss, or with
            `loss_weights="log"` its logarithm, after the unroll, on examples
            that the episode is not trained on, without dropout. It rewards
            what generalizes.
        last_weight: Float, with `held_out` how many times as much the last
            unroll of an episode counts.

    Raises:
        ValueError: if an option is out of its range, or a list of
            `loss_weights` is asked for with `held_out`. `bind` raises it, too,
            if the task has no examples to hold out.

    Reference:
        Metz et al., 2019 (arXiv 1810.10180); antithetic pairs: Vicol et al.,
        2021 (arXiv 2112.13835).
    """

    name = "es"
    pairs: int = 4
    stddev: float = 0.01
    held_out: bool = False
    last_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.held_out and isinstance(self.loss_weights, list):
            raise ValueError(
                "`loss_weights` must be a name where `held_out` is True: each "
                "unroll has one loss then. Received: a list of "
                f"{len(self.loss_weights)} floats."
            )

    def bind(self, rule, task, horizon):
        bound = super().bind(rule, task, horizon)
        if self.held_out:
            task.sample(0).held_out_batch("train", 0, 0)
        vars(bound)["_noise"] = tf.function(bound._drawn, autograph=False)
        return bound

    def _estimate(self, meta_params, episode, noise):
        # The last is not perturbed.
        particles = tf.nest.map_structure(
            lambda p, n: p + tf.concat([n, -n, tf.zeros_like(n[:1])], 0),
            meta_params,
            noise,
        )
        number = 2 * self.pairs + 1
        losses, carries = self._unrolled(
            particles, _repeated(episode.carry, number), episode
        )
        meta_losses = self._meta_losses(
            losses, episode.carry.iteration, episode
        )
        gradient = self._gradient(noise, meta_losses)
        carry = tf.nest.map_structure(
            lambda t: t[-1], carries._replace(iteration=())
        )
        carry = carry._replace(iteration=carries.iteration)
        return gradient, meta_losses[-1], episode._replace(carry=carry)

    def estimate(self, meta_params, episode, seed):
        # Here, since XLA draws other numbers.
        noise = self._noise(meta_params, episode.seed, seed)
        return self._compiled(meta_params, episode, noise)

    def _drawn(self, meta_params, episode_seed, seed):
        """Returns a nest of tensors `[pairs, ...]`."""
        flat = [
            self.stddev
            * tf.random.stateless_normal(
                [self.pairs, *p.shape],
                random_key(episode_seed, 5, seed, i),
                dtype=p.dtype,
                alg=RANDOM,
            )
            for i, p in enumerate(tf.nest.flatten(meta_params))
        ]
        return tf.nest.pack_sequence_as(meta_params, flat)

    def _unrolled(self, particles, carries, episode):
        """Unrolls each particle.

        Args:
            particles: Nest of tensors `[particles, ...]`.
            carries: `Carry` of such tensors; all have one `iteration`.
            episode: `Episode`.

        Returns:
            Tuple of the losses `[particles, unroll_length]`, or `[particles,
            1]` if they are held out, and the carries.
        """
        task = self.task.sample(episode.seed)
        batches = task.batches("train", episode.seed)

        def unroll_one(args):
            meta_params, carry = args
            # Not a particle's own, so that all have one and the same batch.
            carry = carry._replace(iteration=carries.iteration)
            losses, carry = unroll_lib.unroll(
                self.rule,
                task,
                meta_params,
                carry,
                batches,
                self.unroll_length,
                False,
                *self.told(task, episode),
            )
            if self.held_out:
                batch = task.held_out_batch(
                    "train", episode.seed, carry.iteration
                )
                loss = task.evaluation_loss(
                    carry.params, carry.non_trainable, batch
                )
                losses = tf.cast(loss, losses.dtype)[None]
            return losses, carry._replace(iteration=())

        arguments = (particles, carries._replace(iteration=()))
        if self.compile_unroll:
            # XLA can't compile a loop that has been vectorized.
            losses, after = tf.map_fn(
                unroll_one,
                arguments,
                fn_output_signature=self._signature(arguments),
            )
        else:
            losses, after = tf.vectorized_map(unroll_one, arguments, warn=False)
        iteration = carries.iteration + self.unroll_length
        return losses, after._replace(iteration=iteration)

    def _signature(self, arguments):
        """Returns the signature of one particle: losses, and a carry."""
        _, carries = arguments
        carry = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape[1:], t.dtype), carries
        )
        dtype = unroll_lib.loss_dtype(carries.params)
        losses = 1 if self.held_out else self.unroll_length
        return tf.TensorSpec([losses], dtype), carry

    def _meta_losses(self, losses, start, episode):
        """Returns the meta-loss of each particle, from what it returned."""
        if not self.held_out:
            return self._meta_loss.of(losses, start)[0]
        is_last = start + self.unroll_length >= episode.length
        weight = tf.where(is_last, self.last_weight, 1.0)
        losses = losses[..., 0]
        if self.loss_weights == "log":
            losses = meta_loss.logarithm(losses)
        return tf.cast(weight, losses.dtype) * losses

    def _gradient(self, noise, meta_losses):
        """Returns a nest like the meta-parameters.

        Args:
            noise: Nest of tensors `[pairs, ...]`.
            meta_losses: Tensor of both of each pair, and maybe further ones.
        """
        plus = meta_losses[: self.pairs]
        minus = meta_losses[self.pairs : 2 * self.pairs]
        slopes = (plus - minus) / (2 * self.stddev**2 * self.pairs)
        return tf.nest.map_structure(
            lambda n: tf.tensordot(tf.cast(slopes, n.dtype), n, axes=1), noise
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PersistentES(EvolutionStrategies):
    """Evolution strategies without the bias of truncation.

    ```
    meta_gradient = mean(total_noise * (meta_loss(meta_params + noise)
                                        - meta_loss(meta_params - noise)))
        / (2 * stddev^2)
    ```

    Each particle continues from where it ended the last unroll, and
    `total_noise` is the sum of its perturbations since its episode began, so
    the effect of an unroll on later ones counts. The estimate has no bias, and
    more variance the more unrolls an episode has.

    Args:
        unroll_length, loss_weights, pairs, stddev, compile_unroll, held_out,
            last_weight: See `EvolutionStrategies`.

    Reference:
        Vicol et al., 2021 (arXiv 2112.13835), algorithm 2.
    """

    name = "persistent_es"

    def init(self, seed, length=None, is_told=True):
        episode = super().init(seed, length, is_told)
        carries = _repeated(episode.carry, 2 * self.pairs)
        total_noise = tf.nest.map_structure(
            lambda p: tf.zeros([self.pairs, *p.shape], p.dtype),
            self.rule.init_meta_params(0),
        )
        return episode._replace(carry=(carries, total_noise))

    def episode_of(self, episode):
        carries, _ = episode.carry
        carry = tf.nest.map_structure(
            lambda t: t[0], carries._replace(iteration=())
        )
        carry = carry._replace(iteration=carries.iteration)
        return episode._replace(carry=carry)

    def _estimate(self, meta_params, episode, noise):
        carries, total_noise = episode.carry
        particles = tf.nest.map_structure(
            lambda p, n: p + tf.concat([n, -n], 0), meta_params, noise
        )
        losses, after = self._unrolled(particles, carries, episode)
        meta_losses = self._meta_losses(losses, carries.iteration, episode)
        total_noise = self._total_noise(total_noise, noise)
        return (
            self._gradient(total_noise, meta_losses),
            tf.reduce_mean(meta_losses),
            episode._replace(carry=(after, total_noise)),
        )

    def _total_noise(self, before, noise):
        return tf.nest.map_structure(lambda b, n: b + n, before, noise)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SingleES(PersistentES):
    """Persistent evolution strategies with one perturbation for an episode.

    ```
    meta_gradient = mean(noise * (meta_loss(meta_params + noise)
                                  - meta_loss(meta_params - noise)))
        / (2 * stddev^2)
    ```

    Each particle keeps its `noise` until its episode ends. The variance of the
    estimate does not grow with the number of unrolls, as it does where each
    has another perturbation. It has no bias while the meta-parameters stay as
    they are, and little while they move slowly.

    Args:
        unroll_length, loss_weights, pairs, stddev, compile_unroll, held_out,
            last_weight: See `EvolutionStrategies`.

    Reference:
        Vicol, 2023 (arXiv 2304.11153), ES-Single.
    """

    name = "single_es"

    def estimate(self, meta_params, episode, seed):
        return super().estimate(meta_params, episode, tf.zeros_like(seed))

    def _total_noise(self, before, noise):
        return noise


def _repeated(carry, number):
    """Returns a carry with its tensors repeated, but for the iteration."""

    def repeat(tensor):
        return tf.tile(tensor[None], [number] + [1] * tensor.shape.rank)

    repeated = tf.nest.map_structure(repeat, carry._replace(iteration=()))
    return repeated._replace(iteration=carry.iteration)
