"""`Varied`: a Keras model's task that differs from episode to episode."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.tasks import examples
from keras_l2l.tasks.keras_model import KerasModelTask
from keras_l2l.utils import checks

# Examples in a batch that is held out: the loss of few is noise.
_HELD_OUT = 256
_NOISIEST = 0.3
_LARGEST_SCALE = 2.0
# Of the models that warm starts come from.
_PRETRAINED, _PRETRAINING_EXAMPLES = 2, 6000


class Varied(base.TaskFamily):
    """Few or many examples, other labels, noise: a task for each episode.

    A rule that is meta-trained on it can't learn the task by heart, and meets
    both few examples, which can be overfitted, and many. From its seed each
    episode draws:

    - how many of the examples it is trained on, from `fewest` to half of them,
      uniformly in its logarithm; the others are held out;
    - with `classes`, by how much the numbers of the classes are shifted, and
      in `noisy` of all episodes the share of labels, up to 0.3, that are
      replaced by random ones, in the examples that it is trained on;
    - a factor from 0.5 to 2 on the initial kernels, whose rows are permuted
      and change their signs: for the initializers of Keras, another draw;
    - with `classes`, whether it starts warm, in `warm` of all episodes: from a
      model that was trained on other labels, with a fresh last layer;
    - in `streams` of all episodes, that the rule is not told the number of
      examples.

    Args:
        task: `KerasModelTask`.
        fewest: Int, examples.
        classes: Int, the number of classes of integer labels; `None` if the
            labels are something else.
        noisy, warm, streams: Floats in [0, 1], shares of the episodes.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        task: KerasModelTask,
        fewest: int = 100,
        classes: int | None = None,
        noisy: float = 0.3,
        warm: float = 0.0,
        streams: float = 0.0,
    ) -> None:
        if not isinstance(task, KerasModelTask):
            raise ValueError(
                "`task` must be a keras_l2l.tasks.KerasModelTask. Received: "
                f"task={checks.shown(task)} (of type {type(task).__name__})."
            )
        self.task, self.name = task, f"varied_{task.name}"
        self.fewest = checks.require_int("fewest", fewest)
        if classes is not None:
            classes = checks.require_int("classes", classes, 2)
        self.classes = classes
        self.noisy, self.warm = _share("noisy", noisy), _share("warm", warm)
        self.streams = _share("streams", streams)
        for split, data in task.data.items():
            number = examples.number(data)
            if number < 2 * fewest:
                raise ValueError(
                    "`fewest` must be at most half of the examples. Received: "
                    f"fewest={fewest}, with {number} examples of {split}."
                )
        self.initial = [np.asarray(p) for p in task.init_params(0)]
        self.pretrained = []
        if classes and warm:
            self.pretrained = [
                _pretrained(task, classes, seed) for seed in range(_PRETRAINED)
            ]

    def sample(self, seed):
        return _Episode(self, seed)

    def variables(self):
        return self.task.variables()

    def get_config(self):
        return {
            "task": self.task.describe(),
            "fewest": self.fewest,
            "classes": self.classes,
            "noisy": self.noisy,
            "warm": self.warm,
            "streams": self.streams,
        }


class _Episode(base.Task):
    def __init__(self, family, seed):
        self._family, self._seed = family, seed
        self._task = family.task
        self.name = family.name

    def get_config(self):
        return {**self._family.get_config(), "seed": int(self._seed)}

    def variables(self):
        return self._family.variables()

    def init_params(self, seed):
        fresh = [
            self._redrawn(value, i)
            for i, value in enumerate(self._family.initial)
        ]
        if not self._family.pretrained:
            return fresh
        kernels = [i for i, p in enumerate(fresh) if p.shape.rank > 1]
        warm = [
            tf.stack(
                [
                    tf.convert_to_tensor(model[i])
                    for model in self._family.pretrained
                ]
            )
            for i in range(len(fresh))
        ]
        model = self._integer(6, len(self._family.pretrained))
        is_warm = self._uniform(7) < self._family.warm
        return [
            tf.where(is_warm, w[model], f) if i < kernels[-1] else f
            for i, (w, f) in enumerate(zip(warm, fresh, strict=True))
        ]

    def init_non_trainable(self, seed):
        return self._task.init_non_trainable(0)

    def batches(self, split, seed):
        first, number, size = self._trained_on(split)
        share = tf.where(
            self._uniform(9) < self._family.noisy,
            _NOISIEST * self._uniform(10),
            0.0,
        )

        def batch(step):
            chosen = tf.random.stateless_uniform(
                [self._task.batch_size],
                base.random_key(seed, 1, step),
                maxval=number,
                dtype=tf.int32,
                alg=base.RANDOM,
            )
            return self._batch(split, (first + chosen) % size, share)

        return batch

    def held_out_batch(self, split, seed, step):
        first, number, size = self._trained_on(split)
        chosen = tf.random.stateless_uniform(
            [_HELD_OUT],
            base.random_key(seed, 2, step),
            maxval=size - number,
            dtype=tf.int32,
            alg=base.RANDOM,
        )
        return self._batch(split, (first + number + chosen) % size)

    def steps_per_epoch(self, split):
        _, number, _ = self._trained_on(split)
        is_told = self._uniform(16) >= self._family.streams
        steps = tf.cast(number, tf.float32) / self._task.batch_size
        return tf.where(is_told, steps, 0.0)

    def loss(self, params, batch):
        return self._task.loss(params, batch)

    def stateful_loss(self, params, non_trainable, batch):
        return self._task.stateful_loss(params, non_trainable, batch)

    def evaluation_loss(self, params, non_trainable, batch):
        return self._task.evaluation_loss(params, non_trainable, batch)

    def _trained_on(self, split):
        """Returns the first example, their number, and that of the split."""
        size = examples.number(self._task.data[split])
        fewest, most = math.log(self._family.fewest), math.log(size / 2)
        number = tf.exp(fewest + self._uniform(3) * (most - fewest))
        return self._integer(4, size), tf.cast(number, tf.int32), size

    def _batch(self, split, chosen, noisy_share=None):
        """Returns chosen examples, with the labels of this episode."""
        data, classes = self._task.data[split], self._family.classes
        batch = tf.nest.map_structure(lambda t: tf.gather(t, chosen), data)
        if classes is None:
            return batch
        x, y, *weights = batch
        y = (tf.cast(y, tf.int32) + self._integer(8, classes)) % classes
        if noisy_share is not None:
            # The same in each batch. Of a hash, since XLA draws slowly.
            number = _hashed(chosen, self._integer(11, 2**30))
            noise = tf.cast(number % 1000, tf.float32) / 1000 < noisy_share
            noise = tf.reshape(noise, [-1] + [1] * (y.shape.rank - 1))
            other = tf.cast(number // 1000 % classes, tf.int32)
            y = tf.where(
                noise, (y + tf.reshape(other, noise.shape)) % classes, y
            )
        return (x, y, *weights)

    def _redrawn(self, value, i):
        """Returns initial values from the distribution that these are of."""
        if value.ndim < 2:
            return tf.convert_to_tensor(value)
        rows = tf.reshape(value, [-1, value.shape[-1]])
        number = rows.shape[0]
        order = tf.argsort(
            tf.random.stateless_uniform(
                [number], self._key(13, i), alg=base.RANDOM
            )
        )
        signs = tf.random.stateless_uniform(
            [number, 1],
            self._key(14, i),
            minval=0,
            maxval=2,
            dtype=tf.int32,
            alg=base.RANDOM,
        )
        scale = _LARGEST_SCALE ** (2 * self._uniform(15) - 1)
        factors = scale * (2 * tf.cast(signs, rows.dtype) - 1)
        return tf.reshape(factors * tf.gather(rows, order), value.shape)

    def _uniform(self, stream):
        return tf.random.stateless_uniform(
            [], self._key(stream), alg=base.RANDOM
        )

    def _integer(self, stream, number):
        return tf.cast(self._uniform(stream) * number, tf.int32) % number

    def _key(self, *streams):
        return base.random_key(self._seed, *streams)


def _share(name, value):
    if not checks.is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"`{name}` must be a number from 0 to 1. Received: "
            f"{name}={checks.shown(value)}"
        )
    return float(value)


def _hashed(numbers, seed):
    """Returns integers >= 0 of 31 bits that look random, for each number."""
    h = tf.cast(numbers + seed, tf.uint32)
    for factor in (0x7FEB352D, 0x846CA68B):
        h = tf.bitwise.bitwise_xor(
            h, tf.bitwise.right_shift(h, tf.constant(16, tf.uint32))
        )
        h = h * tf.constant(factor, tf.uint32)
    return tf.cast(
        tf.bitwise.right_shift(h, tf.constant(1, tf.uint32)), tf.int32
    )


def _pretrained(task, classes, seed):
    """Returns the parameters of a model that was trained on other labels."""
    x, y, *_ = tf.nest.map_structure(
        lambda t: t[:_PRETRAINING_EXAMPLES], task.data["train"]
    )
    y = (y + seed + 1) % classes
    return task.fitted(x, y, keras.optimizers.Adam(0.003), 1, seed)
