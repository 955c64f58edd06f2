"""Keras' own optimizer tests, with this package's optimizer in their place.

The tests ship in the Keras wheel. Each file is copied with its optimizers
replaced: SGD by `LearnedOptimizer` with a rule whose update is `-gradient`,
so that exact values can be compared; Adam by the shipped preset.
"""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from xml.etree import ElementTree

import keras
import pytest

SUPPORT = """
import keras
import keras_l2l
from keras_l2l import rules


@keras.saving.register_keras_serializable(package="acceptance")
class MinusGradient(rules.CoordinatewiseRule):
    # Hundreds of small models are trained for a step or two.
    jit_compile = False
    rests_without_gradient = True

    def init_meta_params(self, seed):
        return {}

    def init_coordinate_state(self, n):
        return {}

    def coordinate_step(self, meta_params, gradient, state, iteration):
        return -gradient, state


@keras.saving.register_keras_serializable(package="acceptance")
class SGD(keras_l2l.LearnedOptimizer):
    def __init__(self, learning_rate=0.01, rule=None, **kwargs):
        super().__init__(learning_rate, rule or MinusGradient(), **kwargs)


Adam = AdamW = keras_l2l.LearnedOptimizer
"""
# Some tests draw data and weights without a seed, and not all draws will do.
CONFTEST = """
import random

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
"""
# Hardly any of the rest has to do with optimizers, and it takes minutes; nor
# has what a checkpoint is called.
RELATED = (
    "not predict and not evaluate and not steps_per_epoch and not sharding "
    "and not checkpoint_options"
)
# As long as all of the others together.
TRAINER = ("trainers/trainer_test.py",)
OPTIMIZERS = (
    "optimizers/loss_scale_optimizer_test.py",
    "optimizers/multi_optimizer_test.py",
    "optimizers/optimizer_sparse_test.py",
    "optimizers/optimizer_test.py",
    "optimizers/sgd_test.py",
    "backend/tensorflow/optimizer_distribute_test.py",
)
OTHERS = (
    "callbacks/backup_and_restore_test.py",
    "callbacks/learning_rate_scheduler_test.py",
    "callbacks/model_checkpoint_test.py",
    "callbacks/reduce_lr_on_plateau_test.py",
    "callbacks/swap_ema_weights_test.py",
    "saving/saving_lib_test.py",
)
# Every test that fails, and why that is right.
ARGUMENT = "uses an argument of Keras' SGD or Adam that this optimizer has not"
NAME = "compares with the name of Keras' optimizer"
SPARSE = "wants sparse assignments; here the masked rows of a dense one are 0"
SELF = "needs what is not in the wheel: a fixture file, or the package grain"
FAILURES = {
    "LossScaleOptimizerTest.test_config": ARGUMENT,
    "MultiOptimizerTest.test_serialization": NAME,
    "OptimizerDistributeTest.test_config": ARGUMENT,
    "OptimizerDistributeTest.test_correctness_with_golden": ARGUMENT,
    "OptimizerDistributeTest.test_single_step0": ARGUMENT,
    "OptimizerSparseTest.test_sparse_correctness_adam_amsgrad": ARGUMENT,
    "OptimizerSparseTest.test_sparse_correctness_adamw_amsgrad": ARGUMENT,
    "OptimizerSparseTest.test_sparse_correctness_sgd_momentum": ARGUMENT,
    "OptimizerSparseTest.test_sparse_correctness_sgd_momentum_nesterov": (
        ARGUMENT
    ),
    "OptimizerSparseTest.test_sparse_gradients_adam_amsgrad": ARGUMENT,
    "OptimizerSparseTest.test_sparse_gradients_adamw_amsgrad": ARGUMENT,
    "OptimizerSparseTest.test_sparse_gradients_loss_scale_optimizer_sgd": (
        SPARSE
    ),
    "OptimizerSparseTest.test_sparse_gradients_sgd": SPARSE,
    "OptimizerSparseTest.test_sparse_gradients_sgd_momentum": ARGUMENT,
    "OptimizerSparseTest.test_sparse_gradients_sgd_momentum_nesterov": ARGUMENT,
    "OptimizerTest.test_get_method": "asks Keras for its own SGD by name",
    "OptimizerTest.test_optimizer_auto_naming": NAME,
    "OptimizerTest.test_setting_lr_to_callable_untracks_lr_var": (
        "counts variables; here the meta-parameters are among them"
    ),
    "SGDTest.test_config": ARGUMENT,
    "SGDTest.test_correctness_with_golden": ARGUMENT,
    "SGDTest.test_invalid_momentum": ARGUMENT,
    "SGDTest.test_single_step": (
        "counts variables; here that of skipped steps is among them"
    ),
    "SavingBattleTest.test_legacy_load_skips_missing_nested_containers": SELF,
    "TestTrainer.test_fit_with_data_adapter_grain_dataloader": SELF,
    "TestTrainer.test_fit_with_data_adapter_grain_dataset": SELF,
    "TestTrainer.test_fit_with_data_adapter_grain_dataset_with_len": SELF,
}


def adapted(source):
    """Returns a test file with this package's optimizers in it."""
    for pattern, replacement in (
        (r"from keras\.src\.optimizers\.sgd import", "from support import"),
        (r"\boptimizers\.(SGD|AdamW|Adam)\b", r"support.\1"),
        (r'optimizer="sgd"', 'optimizer="acceptance>SGD"'),
        (r'"adam"', '"keras_l2l>LearnedOptimizer"'),
        # Imported for its own backend only, and not installed everywhere.
        (r"(?m)^import jax$", ""),
    ):
        source = re.sub(pattern, replacement, source)
    return "import support\n" + source


@pytest.mark.parametrize(
    "files, at_least",
    [
        pytest.param(OPTIMIZERS, 80, id="optimizers"),
        pytest.param(OTHERS, 90, id="others", marks=pytest.mark.slow),
        pytest.param(TRAINER, 70, id="trainer", marks=pytest.mark.slow),
    ],
)
def test_keras_own_tests(files, at_least, tmp_path):
    (tmp_path / "support.py").write_text(SUPPORT)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    root = pathlib.Path(keras.__file__).parent / "src"
    if not (root / files[0]).exists():
        pytest.skip(f"the wheel of Keras {keras.version()} holds no tests")
    for name in files:
        path = tmp_path / pathlib.Path(name).name
        path.write_text(adapted((root / name).read_text()))
    # Some of these files reset TensorFlow: they need a process of their own.
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-k", RELATED]
    subprocess.run(
        [*command, "--junitxml=report.xml", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    failed, passed = set(), set()
    for case in ElementTree.parse(tmp_path / "report.xml").iter("testcase"):
        name = f"{case.get('classname').split('.')[-1]}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is None:
            passed.add(name)
    for package in ("jax", "torch"):
        # Their own data, where only `make backends` installs them.
        if importlib.util.find_spec(package) is None:
            failed = {name for name in failed if f"_{package}_" not in name}
    others = {
        "TestTrainer": TRAINER,
        "SavingBattleTest": OTHERS,
        "SavingTest": OTHERS,
    }
    assert failed == {
        name
        for name in FAILURES
        if others.get(name.partition(".")[0], OPTIMIZERS) is files
    }
    assert len(passed) >= at_least
