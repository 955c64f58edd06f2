"""Traced and compiled programs, shared by all optimizers of equal rules."""

import collections

import keras
from keras import ops

from keras_l2l.rules import specs
from keras_l2l.utils import backends
from keras_l2l.utils import nests
from keras_l2l.utils import tracing

# A large model takes a hundred; those used longest ago are dropped.
_KEPT = 256
_programs = collections.OrderedDict()


class Programs:
    """Programs that depend on a rule and on their arguments alone.

    On TensorFlow a function is traced once for arguments of the same shapes
    and dtypes, in all of a process: the next model of the same shapes finds
    its program. What XLA has compiled is never freed, so that a loop over
    models would also fill the memory.

    Args:
        what: String, what the programs are for.
        rule: `UpdateRule`. One whose attributes are not plain data has
            programs of its own, for as long as this object lives.
        *further: Plain data that the programs depend on.
    """

    def __init__(self, what, rule, *further):
        self._key, self._programs = None, {}
        try:
            self._key = specs.as_key([what, rule, *further])
            self._programs = _programs
        except TypeError:
            pass

    def run(self, function, *args, jit_compile):
        """Returns `function(*args)`.

        Args:
            function: Function that holds no variables.
            *args: Nests of tensors, variables and `None`. What it assigns to
                these variables is updated in place.
            jit_compile: Bool, whether XLA compiles it, where XLA is available.
        """
        if not tracing.traces():
            return function(*args)
        is_shared = self._programs is _programs
        leaves = list(map(_as_tensor, nests.leaves_of(args)))
        if not is_shared and keras.backend.backend() == "torch":
            # Programs of its own would be dropped after each step.
            return tracing.run(function, nests.pack_leaves(args, leaves))
        key = (
            self._key,
            nests.structure_of(args),
            *map(tracing.kind, leaves),
            jit_compile and backends.has_xla(),
            keras.config.floatx(),
            tracing.context(),
        )
        if key not in self._programs:
            args = nests.pack_leaves(args, leaves)
            program = tracing.traced(function, args, jit_compile)
            self._programs[key] = program
        if is_shared:
            _programs.move_to_end(key)
            while len(_programs) > _KEPT:
                _programs.popitem(last=False)
        return self._programs[key](*leaves)


def if_eager(what, function, *args):
    """Returns `function(*args)`, of one program where `fit` makes none.

    Args:
        what: Plain data that the function depends on.
        function, *args: As for `Programs.run`.
    """
    if keras.backend.backend() != "torch":
        return function(*args)
    return Programs(what, None).run(function, *args, jit_compile=False)


def _as_tensor(leaf):
    # A number would be a constant of the program.
    if leaf is None or ops.is_tensor(leaf) or hasattr(leaf, "assign"):
        return leaf
    return ops.convert_to_tensor(leaf)
