"""The seam to Keras: one call that updates all variables of a model."""

import contextlib
import typing
from collections.abc import Callable
from collections.abc import Sequence

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
    `update(grads, variables, learning_rate, device, finite=False)`. `device` is
    a string on TensorFlow, the replica's, and `None` elsewhere; `finite` is
    what `count_step` returned: whether all gradients are known to be finite.
    """

    observer = None

    def attach(self, observer: typing.Any) -> None:
        """Shows every update to an observer, until `detach`.

        Its variables are carried along with the optimizer's, as JAX requires,
        and not saved.

        Args:
            observer: `callbacks.observer.Observer`.
        """
        self.detach()
        self.observer = observer
        if self.built:
            self.make_observer()

    def detach(self) -> None:
        """Ends what `attach` began."""
        for variable in (
            [] if self.observer is None else self.observer.variables
        ):
            self._untrack_variable(variable)
        self.observer = None

    def own_variables(self) -> list[typing.Any]:
        """Returns the list of `variables` without those of an observer."""
        others = [] if self.observer is None else self.observer.variables
        others = set(map(id, others))
        return [v for v in self.variables if id(v) not in others]

    def make_observer(self) -> None:
        """Makes the variables of an observer, once this optimizer is built."""
        variables = self._updated_variables()
        strategy = getattr(self, "_distribution_strategy", None)
        # A callback runs in no scope.
        scope = strategy.scope() if strategy else contextlib.nullcontext()
        with scope, self.colocated(variables):
            self.observer.make(variables)
        for variable in self.observer.variables:
            self._track_variable(variable)

    def observe(
        self,
        received: typing.Any,
        updates: list[typing.Any],
    ) -> None:
        """Shows the updates to the observer, if there is one."""
        if self.observer is None:
            return
        self.observer(received, updates, backends.read(self.iterations))

    def build(self, variables: Sequence[keras.Variable]) -> None:
        checks.require_real(variables)
        super().build(variables)

    def colocated(
        self, variables: Sequence[typing.Any]
    ) -> contextlib.AbstractContextManager[typing.Any]:
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

    def add_leaf(
        self,
        path: str,
        shape: tuple[int, ...],
        initial: Callable[[], typing.Any],
        dtype: str,
    ) -> keras.Variable:
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

    def add_to(
        self,
        variables: Sequence[typing.Any],
        updates: Sequence[typing.Any],
    ) -> None:
        """Adds to each variable its update, of the same shape."""
        pairs = [
            (variable, ops.cast(update, variable.dtype))
            for variable, update in zip(variables, updates, strict=True)
            # Others have no gradient, and TensorFlow adds nothing to a bool.
            if "float" in keras.backend.standardize_dtype(variable.dtype)
        ]
        if pairs and keras.backend.backend() == "torch":
            import torch

            # In place and in one call: Keras makes a sum of each, and copies.
            held = [variable.value.detach() for variable, _ in pairs]
            torch._foreach_add_(held, [update for _, update in pairs])
            return
        for variable, update in pairs:
            self.assign_add(variable, update)

    def replace_values(
        self,
        variables: Sequence[typing.Any],
        replacements: Sequence[updates.Replacement | None],
    ) -> None:
        """Assigns values that take the place of variables.

        Args:
            variables: List of variables.
            replacements: List of `rules.updates.Replacement` or `None`, of
                each variable; or an empty list.
        """
        for variable, replacement in zip(variables, replacements, strict=False):
            # A layer may have been frozen since `build`.
            if replacement is None or not variable.trainable:
                continue
            held = [variable]
            if self.use_ema:
                # Or the average of what is replaced would come back.
                averages = self._model_variables_moving_average
                held.append(averages[self._get_variable_index(variable)])
            for each in held:
                value = updates.replace(backends.read(each), replacement)
                self.assign(each, value)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.backend.backend() == "tensorflow":
            # Sums the gradients over replicas, then calls the method below.
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
            return
        finite = self.count_step(self.skipped_steps, grads)
        self.update(grads, trainable_variables, learning_rate, None, finite)

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
