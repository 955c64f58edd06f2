"""The episodes of a meta-batch, divided over the replicas of a strategy."""

import contextlib

import tensorflow as tf

from keras_l2l.meta_training import tf_errors
from keras_l2l.rules import vectors
from keras_l2l.utils import checks

# Dtypes that collective operations support everywhere.
_CARRIED = (tf.float32, tf.float64, tf.int32, tf.int64)
# What they raise when another process does not answer.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


class WorkerLostError(RuntimeError):
    """Another process of a run no longer answers."""


class Replicas:
    """The replicas of a `tf.distribute` strategy, in this process and others.

    Each worker process calls the same methods in the same order.

    Args:
        strategy: `tf.distribute.Strategy`, or `None` for this device alone.

    Attributes:
        number: Int, replicas in all processes.
        alone: Bool, whether all of them are in this process.
        is_chief: Bool, whether this process writes what all of them found.

    Raises:
        ValueError: if it is none, or called within a strategy's scope.
    """

    def __init__(self, strategy=None):
        if tf.distribute.has_strategy():
            raise ValueError(
                "Meta-training must be called outside of a strategy's scope. "
                "Received: a call within one. Pass strategy=... instead."
            )
        strategy = strategy or tf.distribute.get_strategy()
        if not isinstance(strategy, tf.distribute.Strategy):
            raise ValueError(
                "`strategy` must be a tf.distribute.Strategy or None. "
                f"Received: {checks.shown(strategy)}"
            )
        self._strategy = strategy
        self.number = strategy.num_replicas_in_sync
        # TensorFlow's default strategy can't say that it has one device.
        self.alone = self.number == (
            len(strategy.extended.worker_devices) if self.number > 1 else 1
        )
        resolver = strategy.cluster_resolver
        self.is_chief = (
            resolver is None
            or resolver.task_type in (None, "", "chief")
            or (
                resolver.task_type == "worker"
                and not resolver.cluster_spec().as_dict().get("chief")
                and resolver.task_id == 0
            )
        )

    @contextlib.contextmanager
    def answering(self):
        """Context of what all worker processes do together.

        Raises:
            WorkerLostError: if one of them does not answer.
        """
        try:
            yield
        except _LOST as error:
            if self.alone:
                raise
            raise WorkerLostError(
                "A worker was lost: all must answer in every meta-step. "
                f"Received: {tf_errors.brief(error)} Go on from the last "
                "checkpoint with --resume, with any number of workers."
            ) from error

    def divide(self, make, items):
        """Returns lists of `make(item)`, each on the replica that it is for."""

        def of_replica(context):
            share = len(items) // self.number
            start = share * context.replica_id_in_sync_group
            return [make(item) for item in items[start : start + share]]

        return self._strategy.experimental_distribute_values_from_function(
            of_replica
        )

    def sum(self, function, divided):
        """Calls a function on each replica and adds up what it returns.

        Args:
            function: Function from a replica's list to a pair: a list of
                tensors, and a list like the one it got.
            divided: As from `divide`.

        Returns:
            The pair of the list of sums, and the new divided lists.
        """

        def on_replica(items):
            with _apart():
                parts, items = function(items)
            context = tf.distribute.get_replica_context()
            # One message for all: a vector of a few thousand numbers.
            vector = context.all_reduce(
                tf.distribute.ReduceOp.SUM, vectors.join(parts)
            )
            return vectors.split(vector, [p.shape for p in parts]), items

        sums, divided = self._strategy.run(on_replica, args=(divided,))
        local_results = self._strategy.experimental_local_results
        return [local_results(s)[0] for s in sums], divided

    def gather(self, divided, kinds=1):
        """Returns the list of all items, from all replicas in order.

        Args:
            divided: As from `divide`.
            kinds: Int, how many structures items have: on each replica one
                after the other, again and again.
        """
        with self.answering():
            gathered = [self._gather(divided[k::kinds]) for k in range(kinds)]
        return [item for row in zip(*gathered, strict=True) for item in row]

    @tf.function(autograph=False)
    def _gather(self, divided):
        def stack(items):
            return tf.nest.map_structure(
                lambda *t: tf.cast(tf.stack(t), _carried(t[0].dtype)), *items
            )

        stacked = self._strategy.run(stack, args=(divided,))
        gathered = tf.nest.map_structure(
            lambda t, like: tf.cast(
                self._strategy.gather(t, axis=0),
                self._strategy.experimental_local_results(like)[0].dtype,
            ),
            stacked,
            divided[0],
        )
        return [
            tf.nest.map_structure(lambda t, i=i: t[i], gathered)
            for i in range(self.number * len(divided))
        ]

    def from_chief(self, number):
        """Returns an int of the chief's, on every worker."""
        if self.alone:
            return number
        number = tf.constant(number if self.is_chief else 0, tf.int64)

        def on_replica():
            context = tf.distribute.get_replica_context()
            # The chief's first replica has it, the others have 0.
            first = tf.equal(context.replica_id_in_sync_group, 0)
            number_here = tf.where(first, number, 0)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, number_here)

        with self.answering():
            total = self._strategy.run(tf.function(on_replica, autograph=False))
        total = self._strategy.experimental_local_results(total)[0]
        return int(total)


@contextlib.contextmanager
def _apart():
    """Context in which a replica knows of no others.

    Keras' losses divide themselves by the number of replicas, as shares of a
    batch. Here each replica has episodes of its own.
    """
    graph = tf.compat.v1.get_default_graph()
    strategies = graph._distribution_strategy_stack
    graph._distribution_strategy_stack = []
    try:
        yield
    finally:
        graph._distribution_strategy_stack = strategies


def _carried(dtype):
    """Returns a supported dtype that holds all values of another."""
    if dtype in _CARRIED:
        return dtype
    return tf.float32 if dtype.is_floating else tf.int64
