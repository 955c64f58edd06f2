"""`LossScaleOptimizer` with a `LearnedOptimizer` in it.

Keras' trainers make one by themselves under the policy `mixed_float16`. It
calls nothing of the optimizer in it where it scales the loss, and saves that
one's variables itself.
"""

from keras import ops


def let_through(wrapper_class, optimizer_class):
    """Lets a wrapper show the loss to an optimizer, and save it as it does.

    Args:
        wrapper_class: `keras.optimizers.LossScaleOptimizer`.
        optimizer_class: Class with `see_loss`, and `saved_variables`, a
            `SavedVariables`.
    """
    scale_loss = wrapper_class.scale_loss
    save = wrapper_class.save_own_variables
    load = wrapper_class.load_own_variables

    def scale_and_show(self, loss):
        inner = self.inner_optimizer
        if isinstance(inner, optimizer_class):
            loss = inner.see_loss(loss)
        return scale_loss(self, loss)

    def save_joined(self, store):
        inner = self.inner_optimizer
        if not isinstance(inner, optimizer_class):
            return save(self, store)
        values = [*self._variables, *inner.saved_variables.joined()]
        for i, value in enumerate(values):
            store[str(i)] = ops.convert_to_numpy(value)

    def load_in_parts(self, store):
        inner = self.inner_optimizer
        if isinstance(inner, optimizer_class) and inner.built:
            number = len(self._variables)
            values = [store[str(i)] for i in range(len(store.keys()))]
            own = inner.saved_variables.in_parts(values[number:])
            values = [*values[:number], *own]
            store = {str(i): value for i, value in enumerate(values)}
        return load(self, store)

    wrapper_class.scale_loss = scale_and_show
    wrapper_class.save_own_variables = save_joined
    wrapper_class.load_own_variables = load_in_parts
