"""Functions that differ between Keras' backends."""

import contextlib
import functools
import weakref

import keras
from keras import ops

# JAX's XLA fuses a concatenation of at most so many arrays with what uses it,
# and may then search for the array of each element, in 28 ns.
_FUSED = 8


def require_tensorflow(name):
    """Raises unless Keras runs on TensorFlow.

    Args:
        name: String, name of the feature that requires TensorFlow.

    Raises:
        RuntimeError: on any other backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{name} must run on Keras' TensorFlow backend. Received: "
            f"{backend}. Set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported; the presets "
            "made there work in LearnedOptimizer on every backend."
        )


def compiled(function, jit_compile=True):
    """Returns a function as a graph on TensorFlow, compiled by XLA.

    On JAX, `fit` compiles everything. On PyTorch, the function runs as it is.

    Args:
        function: Function of tensors. It may read and assign variables.
        jit_compile: Bool, whether XLA compiles it, where XLA is available.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    function = tf.function(
        function, jit_compile=jit_compile and has_xla(), autograph=False
    )
    # TensorFlow would warn, since each model traces its own function.
    function._omit_frequent_tracing_warning = True
    return function


def without_autograph(function):
    """Decorator: the `tf.function` of a user's training loop runs it as it is.

    AutoGraph would take seconds to convert what is called in it.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


@contextlib.contextmanager
def for_updates():
    """The context of an update, whatever the training loop is in.

    PyTorch rounds nothing to float16 or bfloat16: squares of scaled gradients
    are beyond float16. TensorFlow's tapes record nothing: a persistent tape
    would need the gradients of compiled operations that have none.
    """
    backend = keras.backend.backend()
    with contextlib.ExitStack() as stack:
        if backend == "tensorflow":
            # TensorFlow has no public name for all tapes.
            from tensorflow.python.eager import record

            stack.enter_context(record.stop_recording())
        elif backend == "torch":
            import torch

            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def outside_graphs():
    """Returns the context in which variables are created immediately.

    While it traces a function, TensorFlow would initialize each variable with
    a graph of its own, and trace the function a second time.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.distribute.has_strategy():
            return tf.init_scope()
    return contextlib.nullcontext()


def is_tracing():
    """Returns whether operations become part of a TensorFlow graph."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


def of_device(variable, device):
    """Returns the plain variable of a `keras.Variable` on a device.

    Args:
        variable: `keras.Variable`.
        device: String, on TensorFlow; `None` elsewhere.
    """
    if keras.backend.backend() != "tensorflow":
        return variable
    import tensorflow as tf

    held = tf.distribute.get_strategy().experimental_local_results(
        variable.value
    )
    return next((v for v in held if v.device == device), held[0])


def read(variable):
    """Returns the value of a variable or of a tensor, a plain tensor."""
    if keras.backend.backend() == "torch":
        return getattr(variable, "value", variable).detach()
    if keras.backend.backend() == "jax":
        return ops.cast(variable, variable.dtype)
    import tensorflow as tf

    # Keras' functions return the variable itself, which a `tf.function` would
    # keep alive.
    return tf.convert_to_tensor(variable)


def number(variable):
    """Returns the value of a scalar variable or tensor, an int or a float."""
    return ops.convert_to_numpy(read(variable)).item()


def has_value(variable):
    """Returns whether a `keras.Variable` holds a value.

    On JAX, `fit` removes the values of all variables while it trains, and does
    not restore them if a step raises.
    """
    return variable._value is not None


def abstract(function):
    """Returns the result of a function without computing it.

    The function has no arguments. The result consists of tensors that only
    have a shape and a dtype, and nothing is allocated. On a backend without
    such tensors the function is called.
    """
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            traced = tf.function(function, autograph=False)
            return traced.get_concrete_function().structured_outputs
        case "jax":
            import jax

            return jax.eval_shape(function)
        case "torch":
            with keras.device("meta"):
                return function()
    return function()


def writes_in_place():
    """Returns whether slices of tensors are written without a copy."""
    match keras.backend.backend():
        case "tensorflow":
            return has_xla()
        case "jax":
            return True
    return False


def gather(tensor, indices):
    """Returns the slices of a tensor's first axis with indices >= 0.

    `ops.take` adds ten operations for negative ones, where it is not needed.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(tensor, indices)
    # Under floatx bfloat16, Keras makes floats of integers on JAX.
    indices = ops.convert_to_tensor(indices, "int32")
    if keras.backend.backend() == "torch":
        return tensor.index_select(0, indices)
    return ops.take(tensor, indices, axis=0)


def joined(vectors, sizes):
    """Returns one vector of several, each padded with 0 to its size.

    Args:
        vectors: List of tensors `[n]`.
        sizes: List of ints, each at least the length of its vector.
    """
    if keras.backend.backend() == "jax" and len(vectors) <= _FUSED:
        found, start = ops.zeros((sum(sizes),), vectors[0].dtype), 0
        for vector, size in zip(vectors, sizes, strict=True):
            found = ops.slice_update(found, (start,), vector)
            start += size
        return found
    pieces = []
    for vector, size in zip(vectors, sizes, strict=True):
        pieces.append(vector)
        if size > vector.shape[0]:
            padding = (size - vector.shape[0],)
            pieces.append(ops.zeros(padding, vector.dtype))
    return ops.concatenate(pieces)


def clip(tensor, low, high):
    """Returns `ops.clip(tensor, low, high)` for limits that are numbers."""
    if keras.backend.backend() == "torch":
        # Keras makes tensors of them, which PyTorch takes one by one.
        return tensor.clamp(low, high)
    return ops.clip(tensor, low, high)


def lerp(start, end, weight):
    """Returns `start + weight * (end - start)`."""
    if keras.backend.backend() == "torch":
        import torch

        # In one pass over the elements.
        return torch.lerp(start, end, weight)
    return start + weight * (end - start)


def bitcast(tensor, dtype):
    """Returns the same bits as another dtype of the same size."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            return tf.bitcast(tensor, dtype)
        case "jax":
            import jax

            return jax.lax.bitcast_convert_type(tensor, dtype)
        case "torch":
            import torch

            return tensor.view(getattr(torch, dtype))


def sum_over_replicas(tensor):
    """Returns the sum of a tensor over replicas, within `strategy.run`."""
    if keras.backend.backend() != "tensorflow":
        return tensor
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


class Holder:
    """Holds a tensor from one call to another.

    On TensorFlow it is held in a variable, which can be read inside and outside
    of any `tf.function`. On other backends it is held as it is.

    Args:
        shape: Tuple of ints, the shape of the tensor, which is float32.
    """

    def __init__(self, shape):
        self._held, self._variable = None, None
        # Where it was written last, and whether it was ever written in one
        # graph and read in another. What is traced once runs unseen then.
        self._graph, self._unseen = None, False
        if keras.backend.backend() == "tensorflow":
            self._variable = keras.Variable(
                ops.zeros(shape),
                trainable=False,
                dtype="float32",
                aggregation="only_first_replica",
            )

    def write(self, tensor):
        """Holds this tensor."""
        self._held = tensor
        if self._variable is not None:
            # The tensor of a graph can't be used outside of it.
            self._held = True
            self._graph = _graph()
            self._variable.assign(tensor)

    def clear(self):
        """Holds nothing."""
        if self._variable is not None:
            # Replicas wait for each other here, and have all read it.
            self._variable.assign(ops.zeros_like(self._variable))
        self._held = None

    def read(self):
        """Returns the tensor, or `None`.

        In a graph on TensorFlow the tensor is zeros where nothing is held by
        then and this is not known yet.
        """
        if self._variable is None:
            return self._held
        held = read(self._variable)
        if not is_tracing():
            return held if held.numpy().any() else None
        if self._held is not None and not self.is_of_this_graph():
            self._unseen |= self._graph is not None
        return None if self._held is None and not self._unseen else held

    def is_of_this_graph(self):
        """Returns whether it is held where it was written."""
        if self._variable is None:
            return True
        return self._held is not None and self._graph == _graph()


def _graph():
    """Returns a reference to the graph that is traced, or `None`."""
    if not is_tracing():
        return None
    import tensorflow as tf

    return weakref.ref(tf.compat.v1.get_default_graph())


def checked(tensor, condition, message):
    """Returns a tensor of a TensorFlow graph that checks a condition.

    The graph raises where the condition does not hold, except within a program
    of XLA.

    Args:
        tensor: Tensor.
        condition: Scalar bool tensor.
        message: String, of the error.
    """
    import tensorflow as tf

    check = tf.debugging.Assert(condition, [message])
    with tf.control_dependencies([check]):
        return tf.identity(tensor)


def shown(loss, show):
    """Returns a loss after calling a function with it.

    On JAX the function is also called in the backward pass, with a loss that
    can be used outside of the differentiated function.

    Args:
        loss: Scalar tensor.
        show: Function of the loss.
    """
    loss = ops.convert_to_tensor(loss)
    if keras.backend.backend() == "jax":
        import jax

        identity = jax.custom_vjp(lambda loss: loss)

        def backward(loss, upstream):
            show(loss)
            return (upstream,)

        identity.defvjp(lambda loss: (loss, loss), backward)
        loss = identity(loss)
    show(loss)
    return loss


def belong_together(tensor, others):
    """Returns whether JAX can use a tensor together with others.

    Args:
        tensor: Tensor.
        others: List of tensors or `None`.
    """
    if keras.backend.backend() != "jax":
        return True
    import jax

    if not isinstance(tensor, jax.core.Tracer):
        # A compiled function would take the tensor for a constant.
        return not any(isinstance(t, jax.core.Tracer) for t in others)
    try:
        tensor + tensor
    except jax.errors.UnexpectedTracerError:
        return False
    return True


def has_gpu():
    """Returns whether TensorFlow may run operations on a GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def has_cpu_replicas():
    """Returns whether variables have replicas on several CPUs of a process.

    This is how code for several devices is tested.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return False
    devices = tf.distribute.get_strategy().extended.worker_devices
    return len(devices) > 1 and all("CPU" in device for device in devices)


@functools.cache
def has_xla():
    """Returns whether XLA is available to TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    try:
        with tf.init_scope():
            tf.function(lambda: tf.zeros([]) + 1, jit_compile=True)()
    except tf.errors.OpError:
        return False
    return True
