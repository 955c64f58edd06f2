"""What an optimizee is, and which data and seeds may be used for what."""

import keras
import tensorflow as tf

from keras_l2l.utils import checks

SPLITS = ("train", "meta_valid", "test")
# The algorithm of random numbers. Left to TensorFlow, XLA takes another.
RANDOM = "philox"


def split_seed(split, seed):
    """Returns the episode seed of user seed `seed` in `split`.

    The seeds of different splits never meet, so that a task sampled, an
    initialization drawn or a batch chosen for meta-training is not one that
    is validated or tested on.

    Args:
        split: One of `SPLITS`.
        seed: Int >= 0 or a scalar integer tensor.

    Raises:
        ValueError: if the split is unknown or the seed negative.
    """
    if split not in SPLITS:
        raise ValueError(
            f"`split` must be one of {', '.join(SPLITS)}. Received: "
            f"split={checks.shown(split)}"
        )
    if checks.is_int(seed) and seed < 0:
        raise ValueError(
            f"`seed` must be an int of at least 0. Received: seed={seed}"
        )
    return len(SPLITS) * seed + SPLITS.index(split)


def check_task(task):
    """Raises ValueError if `task` is no task."""
    if not isinstance(task, TaskFamily):
        raise ValueError(
            "`task` must be a keras_l2l.tasks.Task or TaskFamily. Received: "
            f"task={checks.shown(task)} (of type {type(task).__name__}). For a "
            "Keras model, use keras_l2l.tasks.KerasModelTask."
        )


def random_key(seed, *streams):
    """Returns a key for `tf.random.stateless_*`, different per stream.

    Args:
        seed: Int or scalar integer tensor.
        *streams: Ints or scalar integer tensors that tell apart what is drawn
            from one seed.
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0, tf.int64)])
    for stream in streams:
        key = tf.random.fold_in(key, tf.cast(stream, tf.int64), RANDOM)
    return key


class TaskFamily:
    """A distribution over tasks of one structure.

    Attributes:
        name: String that identifies the family in results.
    """

    name = None

    def sample(self, seed):
        """Returns the `Task` that belongs to an episode seed.

        Args:
            seed: Scalar integer tensor; traceable, so that one graph serves
                every task of the family.
        """
        raise NotImplementedError

    def variables(self):
        """Returns new `keras.Variable`s, one for each optimizee parameter.

        For the optimizers that `evaluation` runs, and for rules that choose
        by a variable's path.
        """
        params = self.sample(0).init_params(0)
        return [
            keras.Variable(param, name=f"param_{i}")
            for i, param in enumerate(params)
        ]

    def get_config(self):
        """Returns a JSON-able description, written beside every result."""
        raise NotImplementedError

    def describe(self):
        """Returns the name and the configuration, as runs write them."""
        return {"name": self.name, "config": self.get_config()}


class Task(TaskFamily):
    """One optimizee: initial parameters, batches and a loss.

    A task is a family of one. All randomness enters through `seed`, an
    episode seed as from `split_seed`.
    """

    def sample(self, seed):
        return self

    def init_params(self, seed):
        """Returns fresh optimizee parameters, a list of float tensors."""
        raise NotImplementedError

    def batches(self, split, seed):
        """Returns a traceable function: scalar integer step -> batch.

        Args:
            split: One of `SPLITS`; the data of two splits are disjoint.
            seed: Episode seed; the same seed gives the same batches.
        """
        raise NotImplementedError

    def loss(self, params, batch):
        """Returns the scalar loss of `params` on one batch.

        In TensorFlow operations, as in a Keras layer: conditions on tensors
        are `tf.cond`, not `if`.
        """
        raise NotImplementedError

    def init_non_trainable(self, seed):
        """Returns what `stateful_loss` threads through, a list of tensors."""
        return []

    def stateful_loss(self, params, non_trainable, batch):
        """Returns `(loss, non_trainable)`; for tasks with state of their own.

        Override it where a loss has side effects that the next inner step
        must see: dropout seeds, batch-norm statistics.
        """
        return self.loss(params, batch), non_trainable

    def metrics(self, params, non_trainable, split):
        """Returns how good a trained optimizee is on all data of a split.

        Args:
            params, non_trainable: Lists of tensors or arrays, as
                `stateful_loss` takes and returns them.
            split: One of `SPLITS`.

        Returns:
            Dict from names, as `"accuracy"`, to floats; the same names each
            time. Of tasks without any, evaluations tell losses alone.
        """
        return {}


def minibatches(data, batch_size, seed):
    """Returns a function step -> minibatch drawn with replacement.

    The data stay on the device in their own dtype and are gathered inside the
    graph, which is the fastest input that TensorFlow offers for a data set
    that fits in memory.

    Args:
        data: Nest of tensors with the same leading axis.
        batch_size: Int.
        seed: Episode seed.
    """
    size = tf.nest.flatten(data)[0].shape[0]

    def batch(step):
        indices = tf.random.stateless_uniform(
            [batch_size],
            random_key(seed, 1, step),
            maxval=size,
            dtype=tf.int32,
            alg=RANDOM,
        )
        return tf.nest.map_structure(lambda t: tf.gather(t, indices), data)

    return batch


def check_second_derivatives(task, seed=0):
    """Refuses a task whose second derivatives TensorFlow gets wrong.

    `tf.nn.moments`, inside Keras' BatchNormalization, LayerNormalization and
    GroupNormalization among others, stops the gradient of the mean. That is
    right for first derivatives and silently wrong for second ones.

    Raises:
        ValueError: if the loss computes such moments.
    """
    params = task.init_params(seed)
    non_trainable = task.init_non_trainable(seed)

    @tf.function(autograph=False)
    def loss(params, non_trainable):
        batch = task.batches("train", seed)(tf.constant(0, tf.int64))
        return task.stateful_loss(params, non_trainable, batch)[0]

    graph = loss.get_concrete_function(params, non_trainable).graph
    functions = graph.as_graph_def().library.function
    nodes = [
        *graph.as_graph_def().node,
        *(node for function in functions for node in function.node_def),
    ]
    constants = {n.name for n in nodes if n.op == "StopGradient"}
    for node in nodes:
        if node.op == "SquaredDifference" and constants & {
            name.split(":")[0] for name in node.input
        }:
            raise ValueError(
                "`second_derivatives` must be False for a loss that "
                "normalizes by tf.nn.moments, whose second derivatives are "
                f"wrong on TensorFlow. Received: task {task.name!r}, with "
                f"moments in {node.name!r}. Pass second_derivatives=False, or "
                "replace BatchNormalization, LayerNormalization and "
                "GroupNormalization (RMSNormalization is exact)."
            )
