"""Keras' optimizers with a `LearnedOptimizer` in them.

Keras' trainers make a `LossScaleOptimizer` by themselves under the policy
`mixed_float16`. Neither it nor a `MultiOptimizer` calls anything of the
optimizers in it where it scales the loss; and the former saves the variables
of the one in it itself.
"""

import keras
from keras import ops


def within(optimizer, kind):
    """Returns the list of optimizers of one class that a model trains with.

    Args:
        optimizer: `keras.optimizers.Optimizer`, which may hold others.
        kind: The class.
    """
    if isinstance(optimizer, kind):
        return [optimizer]
    # Of a LossScaleOptimizer, and of a MultiOptimizer.
    inner = getattr(optimizer, "inner_optimizer", None)
    inner = getattr(optimizer, "optimizers", [inner])
    return [found for one in inner if one for found in within(one, kind)]


def let_through(optimizer_class):
    """Lets Keras' wrappers show the loss, and save as this class does.

    Args:
        optimizer_class: Class with `see_loss`, and `saved_variables`, a
            `SavedVariables`.
    """
    _show_losses(keras.optimizers.LossScaleOptimizer, optimizer_class)
    _save_checked(keras.optimizers.LossScaleOptimizer, optimizer_class)
    # Keras 3.10 has none.
    if hasattr(keras.optimizers, "MultiOptimizer"):
        _show_losses(keras.optimizers.MultiOptimizer, optimizer_class)


def _show_losses(wrapper_class, optimizer_class):
    scale_loss = wrapper_class.scale_loss

    def scale_and_show(self, loss):
        for inner in within(self, optimizer_class):
            loss = inner.see_loss(loss)
        return scale_loss(self, loss)

    wrapper_class.scale_loss = scale_and_show


def _save_checked(wrapper_class, optimizer_class):
    save = wrapper_class.save_own_variables
    load = wrapper_class.load_own_variables

    def save_own(self, store):
        inner = self.inner_optimizer
        if not isinstance(inner, optimizer_class):
            return save(self, store)
        # Without those of an observer.
        values = [*self._variables, *inner.own_variables()]
        for i, value in enumerate(values):
            store[str(i)] = ops.convert_to_numpy(value)
        if inner.built:
            inner.saved_variables.mark(store)

    def load_checked(self, store):
        inner = self.inner_optimizer
        if not isinstance(inner, optimizer_class):
            return load(self, store)
        store = inner.saved_variables.unmarked(store)
        own, variables = len(self._variables), inner.own_variables()
        values = [store[str(i)] for i in range(own, len(store))]
        # Of another number Keras warns itself.
        if (
            inner.built
            and len(values) == len(variables)
            and not inner.saved_variables.are_for_these(values, variables)
        ):
            return None
        return load(self, store)

    wrapper_class.save_own_variables = save_own
    wrapper_class.load_own_variables = load_checked
