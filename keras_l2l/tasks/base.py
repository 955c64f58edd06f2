"""The base classes of tasks, and the seeds of their splits."""

import typing
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_l2l.utils import checks

SPLITS = ("train", "meta_valid", "test")
# Set explicitly, since XLA uses another algorithm by default.
RANDOM = "philox"


def split_seed(split, seed):
    """Returns the episode seed of user seed `seed` in `split`.

    Different splits have different episode seeds. No sampled task, initial
    parameters or batch of meta-training appear in validation or in tests.

    Args:
        split: One of `SPLITS`.
        seed: Int >= 0 or a scalar integer tensor.

    Raises:
        ValueError: if the split is unknown or the seed is negative.
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
    """Raises ValueError unless `task` is a task."""
    if not isinstance(task, TaskFamily):
        raise ValueError(
            "`task` must be a keras_l2l.tasks.Task or TaskFamily. Received: "
            f"task={checks.shown(task)} (of type {type(task).__name__}). For a "
            "Keras model, use keras_l2l.tasks.KerasModelTask."
        )


def random_key(seed, *streams):
    """Returns a key for `tf.random.stateless_*`, another for each stream.

    Args:
        seed: Int or scalar integer tensor.
        *streams: Ints or scalar integer tensors that identify one of several
            draws from the same seed.
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(0, tf.int64)])
    for stream in streams:
        key = tf.random.fold_in(key, tf.cast(stream, tf.int64), RANDOM)
    return key


class TaskFamily:
    """Distribution over tasks of the same structure.

    Attributes:
        name: String that identifies the family in results.
    """

    name: str | None = None

    def sample(self, seed: typing.Any) -> "Task":
        """Returns the `Task` that belongs to an episode seed.

        Args:
            seed: Scalar integer tensor. The method must be traceable, so that
                one graph serves every task of the family.
        """
        raise NotImplementedError

    def variables(self) -> list[keras.Variable]:
        """Returns new `keras.Variable`s, one for each optimizee parameter.

        They are for the optimizers that `evaluation` runs, and for rules that
        select variables by their path.
        """
        params = self.sample(0).init_params(0)
        return [
            keras.Variable(param, name=f"param_{i}")
            for i, param in enumerate(params)
        ]

    def steps_per_epoch(self, split: str) -> typing.Any:
        """Returns in how many steps `batches` draws as many examples as it has.

        By default `None`: there is no number of examples, or it is not known.

        Args:
            split: One of `SPLITS`.

        Returns:
            Float or scalar float tensor, or 0 or `None` if it is not known.
        """
        return None

    def get_config(self) -> dict[str, typing.Any]:
        """Returns a JSON-able description, which is saved with every result."""
        raise NotImplementedError

    def describe(self) -> dict[str, typing.Any]:
        """Returns a dict of the name and the configuration."""
        return {"name": self.name, "config": self.get_config()}


class Task(TaskFamily):
    """Initial parameters, batches and a loss: what an optimizer minimizes.

    A task is a family with one member. All randomness enters through `seed`,
    an episode seed as from `split_seed`.
    """

    def sample(self, seed):
        return self

    def init_params(self, seed: typing.Any) -> list[typing.Any]:
        """Returns initial parameters, a list of float tensors."""
        raise NotImplementedError

    def batches(
        self, split: str, seed: typing.Any
    ) -> Callable[[typing.Any], typing.Any]:
        """Returns a traceable function: scalar integer step -> batch.

        Args:
            split: One of `SPLITS`. The data of different splits are disjoint.
            seed: Episode seed. The same seed gives the same batches.
        """
        raise NotImplementedError

    def held_out_batch(
        self, split: str, seed: typing.Any, step: typing.Any
    ) -> typing.Any:
        """Returns a batch of examples that `batches` never draws.

        Args:
            split, seed: As for `batches`.
            step: Scalar integer tensor, another batch for each.

        Raises:
            ValueError: by default, as `batches` may draw all examples.
        """
        raise ValueError(
            "With held_out=True, a task must hold examples out. "
            f"Received: task {self.name!r}. Pass held_out=False, or make it a "
            "keras_l2l.tasks.Varied task."
        )

    def evaluation_loss(
        self,
        params: list[typing.Any],
        non_trainable: list[typing.Any],
        batch: typing.Any,
    ) -> typing.Any:
        """Returns the loss of a trained model, as for `stateful_loss`.

        By default, it is the loss of training. Override it where models behave
        otherwise once they are trained, as with dropout.
        """
        return self.stateful_loss(params, non_trainable, batch)[0]

    def loss(self, params: list[typing.Any], batch: typing.Any) -> typing.Any:
        """Returns the scalar loss of `params` on one batch.

        It consists of TensorFlow operations, as in a Keras layer: conditions
        on tensors are `tf.cond`, not `if`.
        """
        raise NotImplementedError

    def init_non_trainable(self, seed: typing.Any) -> list[typing.Any]:
        """Returns the initial state of `stateful_loss`, a list of tensors."""
        return []

    def stateful_loss(
        self,
        params: list[typing.Any],
        non_trainable: list[typing.Any],
        batch: typing.Any,
    ) -> tuple[typing.Any, list[typing.Any]]:
        """Returns `(loss, non_trainable)`, for tasks with their own state.

        Override it if the loss changes state that the next inner step must
        see, such as dropout seeds or statistics of batch normalization.
        """
        return self.loss(params, batch), non_trainable

    def metrics(
        self,
        params: list[typing.Any],
        non_trainable: list[typing.Any],
        split: str,
    ) -> dict[str, float]:
        """Returns metrics of trained parameters on all data of a split.

        Args:
            params, non_trainable: Lists of tensors or arrays, as
                `stateful_loss` takes and returns them.
            split: One of `SPLITS`.

        Returns:
            Dict from names, such as `"accuracy"`, to floats, with the same
            names each time. If it is empty (the default), evaluations report
            only losses.
        """
        return {}


def minibatches(data, batch_size, seed):
    """Returns a function step -> minibatch, drawn with replacement.

    The data stay on the device in their own dtype and are gathered inside the
    graph. This is the fastest input of TensorFlow for data that fit in memory.

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


def check_second_derivatives(task):
    """Raises if TensorFlow computes wrong second derivatives of a task.

    `tf.nn.moments` stops the gradient of the mean. That is right for first
    derivatives and silently wrong for second ones. Keras' BatchNormalization,
    LayerNormalization and GroupNormalization use it, among others.

    Raises:
        ValueError: if the loss uses `tf.nn.moments`.
    """
    params = task.init_params(0)
    non_trainable = task.init_non_trainable(0)

    @tf.function(autograph=False)
    def loss(params, non_trainable):
        batch = task.batches("train", 0)(tf.constant(0, tf.int64))
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
