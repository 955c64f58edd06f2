"""What a meta-gradient estimator is."""

import typing


class Episode(typing.NamedTuple):
    """One optimizee in training.

    Attributes:
        seed: Scalar int64 tensor, the episode seed.
        carry: `keras_l2l.unroll.Carry`.
    """

    seed: typing.Any
    carry: typing.Any


class GradientEstimator:
    """Estimates the gradient of the meta-loss in the meta-parameters.

    Attributes:
        horizon: Int, inner steps in an episode.
        unroll_length: Int, inner steps per meta-gradient.
    """

    def init(self, seed):
        """Returns a fresh `Episode` of the `train` split.

        Args:
            seed: Int >= 0.
        """
        raise NotImplementedError

    def estimate(self, meta_params, episode, seed):
        """Takes `unroll_length` inner steps of one episode.

        Args:
            meta_params: Nest of tensors.
            episode: `Episode`.
            seed: Scalar integer tensor, for the estimator's own random
                numbers.

        Returns:
            Tuple `(meta_gradient, meta_loss, episode)`: a nest like
            `meta_params`, a scalar, and the episode `unroll_length` steps on.
        """
        raise NotImplementedError

    def episode_of(self, episode):
        """Returns what `unroll` goes on from: here, the episode itself."""
        return episode
