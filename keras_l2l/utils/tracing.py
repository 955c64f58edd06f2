"""Functions as graphs that hold no variables, on TensorFlow and PyTorch."""

import sys
import threading
import warnings

import keras
from keras import ops

from keras_l2l.utils import backends
from keras_l2l.utils import nests


def traces():
    """Returns whether functions become graphs before they run.

    On JAX, `fit` compiles everything, as `torch.compile` does on PyTorch.
    """
    match keras.backend.backend():
        case "tensorflow":
            return True
        case "torch":
            import torch

            return not torch.compiler.is_compiling()
    return False


def traced(function, args, jit_compile):
    """Returns a function as a graph, for arguments like these.

    The graph holds no variables and belongs to no replica, so it can be called
    for other variables. On TensorFlow it can be part of any other graph.

    Args:
        function: Function of nests of tensors, variables and `None`.
        args: Tuple of its arguments, with variables as `tf.Variable`s, on
            PyTorch as `keras.Variable`s.
        jit_compile: Bool, whether XLA compiles it, where XLA is available.

    Returns:
        Function of the leaves of such arguments, in the order of
        `nests.leaves_of`.
    """
    if keras.backend.backend() == "torch":
        return _TorchProgram(function, args, trace=True)
    return _traced_by_tensorflow(function, args, jit_compile)


def run(function, args):
    """Returns `function(*args)`, without a graph.

    Args:
        function, args: As for `traced`.
    """
    if keras.backend.backend() == "torch":
        program = _TorchProgram(function, args, trace=False)
        return program(*nests.leaves_of(args))
    return function(*args)


def context():
    """Returns what graphs belong to, hashable.

    On TensorFlow, this is its context, which a reset replaces, as in its own
    tests and those of Keras.
    """
    if keras.backend.backend() == "torch":
        import torch

        return tuple(
            (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in ("cpu", "cuda")
        )
    from tensorflow.python.eager import context

    return context.context()


def kind(leaf):
    """Returns what a graph depends on of an argument, hashable.

    Args:
        leaf: Tensor, variable or `None`.
    """
    if leaf is None:
        return None
    variable = hasattr(leaf, "assign")
    if keras.backend.backend() == "torch":
        leaf = leaf.value if variable else leaf
        return variable, leaf.shape, leaf.dtype, leaf.device
    return variable, tuple(leaf.shape), leaf.dtype


class _TensorFlowVariable:
    """A variable that is an argument of a program."""

    def __init__(self, handle, like):
        self._handle, self.shape, self.dtype = handle, like.shape, like.dtype

    def assign(self, value):
        import tensorflow as tf

        tf.raw_ops.AssignVariableOp(resource=self._handle, value=value)

    def __tf_tensor__(self, dtype=None, name=None):
        import tensorflow as tf

        value = tf.raw_ops.ReadVariableOp(
            resource=self._handle, dtype=self.dtype
        )
        return tf.ensure_shape(value, self.shape)


def _traced_by_tensorflow(function, args, jit_compile):
    import tensorflow as tf

    leaves, pack = nests.leaves_of(args), nests.packer(args)

    def spec(leaf):
        return None if leaf is None else tf.TensorSpec(leaf.shape, leaf.dtype)

    def handle(leaf):
        return leaf.handle if isinstance(leaf, tf.Variable) else leaf

    def argument(leaf, spec):
        is_handle = leaf is not None and leaf.dtype == tf.resource
        return _TensorFlowVariable(leaf, spec) if is_handle else leaf

    def of_plain_tensors(*leaves):
        return function(*pack(map(argument, leaves, specs)))

    specs = list(map(spec, leaves))
    compiled = tf.function(
        of_plain_tensors,
        jit_compile=jit_compile and backends.has_xla(),
        autograph=False,
    )
    with tf.init_scope():
        program = compiled.get_concrete_function(
            *(spec(handle(leaf)) for leaf in leaves)
        )
    return lambda *leaves: program(*map(handle, leaves))


class _TorchVariable:
    """A variable that is an argument of a program, and what it becomes."""

    def __init__(self, value):
        self.value, self.dtype, self.shape = value, value.dtype, value.shape

    def assign(self, value):
        value = ops.cast(value, self.dtype)
        if value.shape != self.shape:
            raise ValueError(
                "A variable must be assigned a value of its shape, "
                f"{tuple(self.shape)}. Received: {tuple(value.shape)}."
            )
        self.value = value


class _TorchProgram:
    """Calls a function of nests, which assigns to variables, as a whole.

    Args:
        function, args: As for `traced`.
        trace: Bool, whether to run a program of its operations. Of a step of
            hundreds of operations on small tensors, what Keras and Python do
            around them takes most of the time.
    """

    def __init__(self, function, args, trace):
        leaves = nests.leaves_of(args)
        self._function, self._pack = function, nests.packer(args)
        self._number = len(leaves)
        self._present = [i for i, v in enumerate(leaves) if v is not None]
        self._variables = [
            i for i in self._present if hasattr(leaves[i], "assign")
        ]
        self._program = self._of_tensors
        # What has no arguments would be a constant, each time the same tensor.
        if trace and leaves:
            # A copy of each: PyTorch knows tensors of a trace by identity.
            tensors = [t.detach() for t in self._tensors(leaves)]
            self._program = _torch_program(self._of_tensors, tensors)

    def __call__(self, *leaves):
        import torch

        with torch.no_grad():
            found = self._program(*self._tensors(leaves))
            values = [leaves[i].value.detach() for i in self._variables]
            held = {v.untyped_storage().data_ptr() for v in values}
            found = iter(
                # Not a variable itself, which is written before it is read.
                t.clone() if t.untyped_storage().data_ptr() in held else t
                for t in found
            )
            result = [next(found) if given else None for given in self._given]
            if values:
                torch._foreach_copy_(values, list(found))
        return self._pack_result(result)

    def _tensors(self, leaves):
        # A program takes tensors of one layout.
        return [backends.read(leaves[i]).contiguous() for i in self._present]

    def _of_tensors(self, *tensors):
        leaves = [None] * self._number
        for i, tensor in zip(self._present, tensors, strict=True):
            is_variable = i in self._variables
            leaves[i] = _TorchVariable(tensor) if is_variable else tensor
        result = self._function(*self._pack(leaves))
        found, self._pack_result = nests.leaves_of(result), nests.packer(result)
        self._given = [leaf is not None for leaf in found]
        assigned = [leaves[i].value for i in self._variables]
        return tuple(t for t in [*found, *assigned] if t is not None)


# `make_fx` is of one thread.
_lock = threading.RLock()


def _torch_program(function, tensors):
    """Returns a function of tensors as a program of PyTorch, if it can be one.

    What looks at values, as `ops.cond` does, cannot.
    """
    import torch

    with _lock, torch.no_grad(), warnings.catch_warnings():
        # Of `torch.jit.trace`.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return _traced_by_torch(function, tensors)
        except Exception:
            # If it is an error of the function, it will be raised again.
            return function


def _traced_by_torch(function, tensors):
    import torch
    from torch.fx.experimental import proxy_tensor

    # With tensors that have no values: what reads them raises.
    make = proxy_tensor.make_fx(function, tracing_mode="fake")
    graph = make(*tensors)
    for node in graph.graph.nodes:
        if torch.Tag.dynamic_output_shape in getattr(node.target, "tags", ()):
            raise ValueError(f"the shape depends on values: {node}")
    graph.graph.eliminate_dead_code()
    graph.recompile()
    if sys.version_info >= (3, 14) or not hasattr(torch.jit, "trace"):
        return graph
    # Deprecated, and three times as fast as the graph, which is Python. It is
    # not for the function itself: it would follow one branch of a condition on
    # values.
    program = torch.jit.trace(graph.eval(), tuple(tensors), check_trace=False)
    program = torch.jit.freeze(program)
    (output,) = (n for n in graph.graph.nodes if n.op == "output")
    constant = list(map(_depends_on_no_argument, output.args[0]))
    if not any(constant):
        return program
    # `freeze` computes them once, and others may write into them.
    return lambda *tensors: tuple(
        t.clone() if is_constant else t
        for t, is_constant in zip(program(*tensors), constant, strict=True)
    )


def _depends_on_no_argument(node):
    return node.op != "placeholder" and all(
        map(_depends_on_no_argument, node.all_input_nodes)
    )
