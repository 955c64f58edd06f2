"""Optimizers that update all variables of a model at once, on each replica."""

import contextlib
import functools

import keras
from keras import ops

from keras_l2l.optimizer import seen_loss
from keras_l2l.rules import updates
from keras_l2l.utils import backends
from keras_l2l.utils import checks


class WholeModelOptimizer(seen_loss.LossSeeingOptimizer):
    """An optimizer that updates all variables of a model in one call.

    Subclasses implement `_update(grads, variables, learning_rate, loss,
    device)`, `loss` being that of the gradients, or `None` if there is none,
    and `device` a string on TensorFlow, the replica's, and `None` elsewhere.
    """

    def build(self, variables):
        checks.require_real(variables)
        super().build(variables)

    def _where(self, variables):
        """Returns the context in which state for these variables is made.

        Under a `tf.distribute.Strategy` it raises for variables of another
        scope than the optimizer's, as for Keras' own optimizers.
        """
        strategy = getattr(self, "_distribution_strategy", None)
        if strategy is None or not variables:
            return contextlib.nullcontext()
        first = variables[0]
        return strategy.extended.colocate_vars_with(
            first.value if isinstance(first, keras.Variable) else first
        )

    def add_leaf(self, path, shape, initial, dtype):
        """Returns a new variable, of a leaf in a nest.

        Args:
            path: String, the names that lead to it.
            shape: Tuple of ints.
            initial: Function that returns its value.
            dtype: String.
        """
        return self.add_variable(
            shape=shape,
            # While a train step is traced, only initializers may set values.
            # A rule may make them in `keras.config.floatx()`.
            initializer=lambda shape, dtype: ops.cast(initial(), dtype),
            dtype=dtype,
            name=path.replace("/", "_"),
        )

    def replace_values(self, variables, replacements):
        """Assigns values that take the place of variables.

        Args:
            variables: List of variables.
            replacements: List of `rules.updates.Replacement` or `None`, of
                each variable; or an empty list.
        """
        for variable, replacement in zip(variables, replacements, strict=False):
            if replacement is not None:
                value = backends.read(variable)
                self.assign(variable, updates.replace(value, replacement))

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        """Updates all variables with one call of the rule.

        Keras' public hook, `update_step`, sees one variable at a time; rules
        work on all of them at once.
        """
        if keras.backend.backend() == "tensorflow":
            # Sums the gradients over replicas, then calls the method below.
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
        else:
            self._update(
                grads, trainable_variables, learning_rate, self._loss, None
            )

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # TensorFlow registers a gradient of the sum, which holds the graph and
        # all its variables for as long as the process lives.
        if self._distribution_strategy.num_replicas_in_sync == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def _distributed_tf_update_step(
        self, distribution, grads_and_vars, learning_rate
    ):
        grads, variables = zip(*grads_and_vars, strict=True)
        loss = self._loss
        # Once on each replica, on that replica's part of every variable.
        distribution.extended.update(
            variables[0],
            lambda local, grads, rate: self._update(
                grads, variables, rate, loss, local.device
            ),
            args=(grads, learning_rate),
            group=False,
        )


def one_per_device(make):
    """Returns the function `make(device)`, called once for each device.

    What TensorFlow has traced on one replica holds on to that replica's part
    of the variables.
    """
    return functools.cache(make)
