"""Flags at random, and errors that no user is to blame for."""

import concurrent.futures
import contextlib
import io
import os
import pathlib
import random
import sys

import forked
import numpy as np
import pytest
import tensorflow as tf
from absl import app
from absl import flags

from train import cli
from train import meta_flags
from train import meta_train

# A run of one meta-step, in case that what is changed is right.
SHORT = {
    "task": "quadratics",
    "rule": "sgd",
    "horizon": "2",
    "unroll_length": "1",
    "meta_steps": "1",
}
NUMBERS = ["", "-1", "0", "1", "3", "1.5", "1e999", "-1e-30", "nan", "9" * 30]
TEXTS = [
    "",
    " ",
    "None",
    "[1]",
    "../no\n",
    "\u00e9\u2028",
    "a\\b'\"{}%s",
    "x" * 300,
]
BOOLS = ["true", "false", "", "2"]
VALUES = {
    "task": ["mlp", *TEXTS],
    "rule": ["lstm", "adam", *TEXTS],
    "horizon": NUMBERS,
    "unroll_length": NUMBERS,
    "meta_steps": NUMBERS[:-1],
    "meta_batch_size": NUMBERS,
    "meta_learning_rate": NUMBERS,
    "seed": NUMBERS,
    "replay": NUMBERS,
    "search": NUMBERS[:4],
    "loss_weights": ["last", *TEXTS],
    "estimator": ["es", "imitation", *TEXTS],
    "meta_clipnorm": ["none", *NUMBERS],
    "sampled_coordinates": ["none", *NUMBERS],
    "teacher": ["momentum", "lstm", *TEXTS],
    "teacher_learning_rate": NUMBERS,
    "imitation_weight": NUMBERS,
    "validation_interval": NUMBERS,
    "validation_episodes": NUMBERS[:-1],
    "experiment": ["quadratics", *TEXTS],
    "quick": BOOLS,
    "second_derivatives": BOOLS,
    "check": BOOLS,
    "resume": BOOLS,
    "download": BOOLS,
    "distribute": ["mirrored", *TEXTS],
    "dataset": TEXTS,
    "data_dir": ["file", "file/x", *TEXTS],
    "output_dir": ["file", "file/x", *TEXTS],
    "nope": TEXTS,
}


def outcomes(cases, folder):
    """Returns, for each list of flags, what a script exits with and prints."""
    os.chdir(folder)
    found = []
    for case in cases:
        flags.FLAGS.unparse_flags()
        by_module = flags.FLAGS.flags_by_module_dict()
        for module in ("train.meta_flags", "train.option_flags"):
            for flag in by_module[module]:
                flag.value, flag.present = flag.default, 0
        sys.argv = ["train.meta_train", *case]
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            try:
                cli.run(meta_train.main)
            except SystemExit as end:
                found.append((end.code, text.getvalue()))
            except BaseException as error:
                found.append((repr(error), text.getvalue()))
    return found


@pytest.fixture(scope="module")
def in_one_process():
    """Returns `outcomes` in another process, which is the same for all tests.

    TensorFlow takes seconds to be imported.
    """
    with concurrent.futures.ProcessPoolExecutor(
        1, forked.context, initializer=meta_flags.define_flags
    ) as pool:
        yield lambda *arguments: pool.submit(outcomes, *arguments).result()


def test_all_stages_are_checked_before_the_first(tmp_path, in_one_process):
    mnist = ["--experiment=mnist", "--dataset=l2l_digits", "--task=mlp"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    cases = {
        # The first stage alone could do with it.
        "`unroll_length` must divide": ["--horizon=60", "--output_dir=new"],
        # What they sample for speed, these can't: it is no reason to stop.
        "new or empty": ["--rule=lstm_averaging", "--output_dir=full"],
        "or empty": ["--second_derivatives", "--output_dir=full"],
        "`second_derivatives` must be False": [
            "--second_derivatives",
            "--sampled_coordinates=3",
            "--output_dir=new",
        ],
        "--search must be of one stage": ["--search=2", "--output_dir=new"],
        "must go with --estimator=imitation": [
            "--imitation_weight=2",
            "--output_dir=new",
        ],
        "must go with --estimator=es or persistent_es": [
            "--estimator=imitation",
            "--pairs=2",
            "--output_dir=new",
        ],
        "must go with --estimator=imitation. Received": [
            "--teacher_learning_rate=2",
            "--output_dir=new",
        ],
        "of the stage whose meta-step": ["--replay=1", "--output_dir=new"],
        "new/stage_2": ["--replay=1", "--output_dir=new/stage_2"],
    }
    found = in_one_process([mnist + case for case in cases.values()], tmp_path)
    for message, (code, _) in zip(cases, found, strict=True):
        assert message in str(code)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "number", [20, pytest.param(60, marks=pytest.mark.slow)]
)
def test_random_flags_end_in_a_run_or_in_a_message(
    number, tmp_path, in_one_process
):
    rng = random.Random(0)
    cases = []
    for i in range(number):
        names = rng.sample([*VALUES], rng.choice([1, 1, 2, 3]))
        changed = {name: rng.choice(VALUES[name]) for name in names}
        given = {**SHORT, "output_dir": f"run{i}", **changed}
        cases.append([f"--{name}={value}" for name, value in given.items()])
    (tmp_path / "file").write_text("precious")
    found = in_one_process(cases, tmp_path)
    for case, (code, text) in zip(cases, found, strict=True):
        # A code, or the one message that the process would end with.
        assert code in (None, 0, 1) or code.startswith("error: "), (case, code)
        assert "Traceback" not in text, case
    ends = [code for code, _ in found]
    assert ends.count(None) >= number / 12
    assert len(set(ends)) >= number / 6
    assert (tmp_path / "file").read_text() == "precious"
    assert not list(tmp_path.rglob(".unfinished_*"))


@tf.function
def too_large(n):
    return tf.reduce_sum(tf.random.normal([n, n]))


@pytest.mark.parametrize(
    "work",
    [
        lambda: np.zeros((10**9, 10**9)),
        pytest.param(
            lambda: too_large(tf.constant(10**7)), marks=pytest.mark.slow
        ),
    ],
)
def test_out_of_memory_ends_in_one_message(monkeypatch, work):
    monkeypatch.setattr(sys, "argv", ["script"])
    monkeypatch.setattr(app, "run", lambda main: main(["script"]))
    with pytest.raises(SystemExit) as end:
        cli.run(work)
    message = end.value.code
    assert message.startswith("error: There must be enough memory.")
    assert "Take a smaller" in message
    assert len(message.splitlines()) < 4
    assert str(pathlib.Path(__file__)) not in message
