"""Functions as graphs that hold no variables, on TensorFlow and PyTorch."""

import sys
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
        return _traced_by_torch(function, args)
    return _traced_by_tensorflow(function, args, jit_compile)


def context():
    """Returns what graphs belong to.

    On TensorFlow, this is its context, which a reset replaces, as in its own
    tests and those of Keras.
    """
    if keras.backend.backend() != "tensorflow":
        return None
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
        self.value = ops.cast(value, self.dtype)


def _traced_by_torch(function, args):
    """Returns a function that calls the operations of another alone.

    Of a step of hundreds of operations on small tensors, what Keras and Python
    do around them takes most of the time.
    """
    import torch

    leaves, pack = nests.leaves_of(args), nests.packer(args)
    present = [i for i, leaf in enumerate(leaves) if leaf is not None]
    variables = [i for i in present if hasattr(leaves[i], "assign")]
    pack_result, is_given = None, []

    def of_plain_tensors(*tensors):
        nonlocal pack_result, is_given
        leaves_now = [None] * len(leaves)
        for i, tensor in zip(present, tensors, strict=True):
            leaves_now[i] = _TorchVariable(tensor) if i in variables else tensor
        result = function(*pack(leaves_now))
        found, pack_result = nests.leaves_of(result), nests.packer(result)
        is_given = [leaf is not None for leaf in found]
        assigned = [leaves_now[i].value for i in variables]
        return tuple(t for t in [*found, *assigned] if t is not None)

    def values(leaves):
        return [
            leaves[i].value.detach() if i in variables else leaves[i]
            for i in present
        ]

    def as_it_is(*leaves):
        return function(*pack(leaves))

    if not leaves:
        # What it returned would be constants, each time the same tensors.
        return as_it_is
    with torch.no_grad():
        try:
            program = _program(of_plain_tensors, values(leaves))
        except RuntimeError:
            # What looks at values, as `ops.cond` does, has no graph. Any other
            # error will be raised again.
            return as_it_is

    def run(*leaves):
        with torch.no_grad():
            found = iter(program(*values(leaves)))
            result = [next(found) if given else None for given in is_given]
            if variables:
                torch._foreach_copy_(
                    [leaves[i].value.detach() for i in variables], list(found)
                )
        return pack_result(result)

    return run


def _program(function, tensors):
    """Returns a function of tensors as a program of PyTorch."""
    import torch
    from torch.fx.experimental import proxy_tensor

    graph = proxy_tensor.make_fx(function)(*tensors)
    for node in graph.graph.nodes:
        # A copy of a constant, which nobody changes.
        if node.target == torch.ops.aten.lift_fresh_copy.default:
            node.replace_all_uses_with(node.args[0])
    graph.graph.eliminate_dead_code()
    graph.recompile()
    if sys.version_info >= (3, 14) or not hasattr(torch.jit, "trace"):
        return graph
    # Deprecated, and three times as fast as the graph, which is Python. It is
    # not for the function itself: it would follow one branch of a condition on
    # values, where `make_fx` raises.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.jit.trace(
            graph.eval(), tuple(tensors), check_trace=False
        )
        return torch.jit.freeze(program)
