"""The command `keras-l2l`: presets, comparisons and the scripts of `train`."""

import argparse
import importlib
import os
import pathlib
import runpy
import sys

from keras_l2l.presets import shipped
from keras_l2l.utils import backends

# Which are scripts with flags of their own.
_SCRIPTS = ("meta-train", "evaluate", "plot", "export", "fit", "reproduce")


def main(arguments=None):
    """Runs the command.

    Args:
        arguments: List of strings; `None` for those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # The user's modules.
    sys.path.insert(0, os.getcwd())
    try:
        if arguments and arguments[0] in _SCRIPTS:
            _run_script(*arguments)
        else:
            values = _parser().parse_args(arguments)
            values.run(values)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(
            "error: The packages that a command needs must be installed. "
            f"Received: {error}. For those of keras_l2l itself, run pip "
            'install "keras_l2l[train]", or in a clone pip install ".[train]".'
        )
    except KeyboardInterrupt:
        sys.exit(
            "\nStopped. With --output_dir, the same command continues after "
            "the last run that was complete."
        )


def _parser():
    parser = argparse.ArgumentParser("keras-l2l", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    presets = commands.add_parser("presets", help="the presets of the package")
    presets.set_defaults(run=lambda values: print(shipped()))
    compare = commands.add_parser(
        "compare",
        help="does a learned optimizer pay for your model?",
        allow_abbrev=False,
    )
    compare.set_defaults(run=_compare)
    for name, meaning in {
        "--model": "a function that returns a new model, as module:function",
        "--data": "a pair of arrays or a function that returns one, as "
        "module:name",
        "--loss": "a name as for compile, or module:name",
    }.items():
        compare.add_argument(name, required=True, help=meaning)
    compare.add_argument("--validation_data", help="as --data")
    compare.add_argument("--metrics", nargs="*", default=[], metavar="NAME")
    for name, default in (("steps", 1000), ("batch_size", 32), ("seeds", 3)):
        compare.add_argument(
            f"--{name}", type=int, default=default, help=f"({default})"
        )
    compare.add_argument(
        "--output_dir", help="folder for the runs; the same one continues them"
    )
    compare.add_argument("--figure", help="file of the figure to write")
    for name in _SCRIPTS:
        commands.add_parser(name, help=f"python -m {_module(name)}")
    return parser


def _compare(values):
    try:
        backends.require_tensorflow("keras-l2l compare")
    except RuntimeError as error:
        raise ValueError(error) from None
    from keras_l2l.evaluation import plots
    from keras_l2l.evaluation.compare import compare

    if values.figure is not None:
        plots.new_figure(values.figure)
    loss = _found(values.loss) if ":" in values.loss else values.loss
    validation_data = values.validation_data
    result = compare(
        _found(values.model),
        loss,
        _data(values.data),
        steps=values.steps,
        seeds=range(values.seeds),
        batch_size=values.batch_size,
        validation_data=validation_data and _data(validation_data),
        metrics=values.metrics,
        output_dir=values.output_dir,
    )
    print(result)
    if values.figure is not None:
        result.plot(values.figure)


def _data(name):
    data = _found(name)
    return data() if callable(data) else data


def _found(name):
    """Returns the object that `module:name` names."""
    module, _, attribute = name.partition(":")
    why = "no name after the module"
    try:
        found = importlib.import_module(module)
        if attribute:
            return getattr(found, attribute)
    except (AttributeError, ModuleNotFoundError, ValueError) as error:
        why = error
    raise ValueError(
        "An object must be given as module:name, of a module that can be "
        f"imported in this folder. Received: {name} ({why})."
    )


def _module(name):
    return f"train.{name.replace('-', '_')}"


def _run_script(name, *flags):
    """Runs a script of `train`, with its flags."""
    package = pathlib.Path(__file__).parent
    # Installed, they lie where nothing imports them by chance; see setup.py.
    installed = package / "scripts"
    folder = installed if installed.is_dir() else package.parent
    sys.path.insert(0, str(folder))
    sys.argv = [f"keras-l2l {name}", *flags]
    runpy.run_module(_module(name), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
