"""The seam to Keras: one call that updates all variables of a model."""

import contextlib

import keras
from keras import ops

from keras_l2l.rules import updates
from keras_l2l.utils import backends
from keras_l2l.utils import checks


class WholeModelOptimizer(keras.optimizers.Optimizer):
    """An optimizer that updates all variables of a model in one call.

    Keras' public hook, `update_step`, sees one variable at a time; rules work
    on all of them at once.

    Subclasses implement `count_step(counter, grads)`, which is called before
    each update with their variable `skipped_steps`, and
    `update(grads, variables, learning_rate, device)`. `device` is a string on
    TensorFlow, the replica's, and `None` elsewhere.
    """

    def build(self, variables):
        checks.require_real(variables)
        super().build(variables)

    def colocated(self, variables):
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
        """Returns a new variable for a leaf of a nest.

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
        if keras.backend.backend() == "tensorflow":
            # Sums the gradients over replicas, then calls the method below.
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
            return
        self.count_step(self.skipped_steps, grads)
        self.update(grads, trainable_variables, learning_rate, None)

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
        # Once on each replica, on that replica's part of every variable.
        distribution.extended.update(
            self.skipped_steps.value,
            self.count_step,
            args=(list(grads),),
            group=False,
        )
        distribution.extended.update(
            variables[0],
            lambda local, grads, rate: self.update(
                grads, variables, rate, local.device
            ),
            args=(grads, learning_rate),
            group=False,
        )
