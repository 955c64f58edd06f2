"""The package `train` for `python train/SCRIPT.py`, as with `-m train.SCRIPT`.

Python then finds this file where a script imports `train`.
"""

import pathlib

__path__ = [str(pathlib.Path(__file__).parent)]
