"""What the scripts tell a user who asks, or errs."""

import forked
import keras
import pytest


@pytest.mark.parametrize(
    "script",
    [
        *("benchmark", "choose", "evaluate", "export", "fit"),
        *("meta_train", "plot", "suite"),
    ],
)
def test_help_reads_well(script):
    done = forked.run(script, "--help")
    text = done.stdout + done.stderr
    assert f"python -m train.{script}" in text
    reads_data = script not in ("benchmark", "export")
    assert ("--[no]download" in text) is reads_data


@pytest.mark.parametrize(
    "script, flags, message",
    [
        ("meta_train", ["--task=nope", "--output_dir=x"], "neural_art|"),
        ("meta_train", ["--rule=nope", "--output_dir=x"], "lstm"),
        (
            "meta_train",
            ["--init_preset=l2l_quadratics", "--rule=sgd", "--output_dir=x"],
            "--rule must not be given with --init_preset",
        ),
        (
            "meta_train",
            ["--init_preset=l2l_quadratics", "--check", "--output_dir=x"],
            "fresh meta-parameters. Received: --init_preset=l2l_quadratics",
        ),
        ("meta_train", ["--init_preset=nope", "--output_dir=x"], "'nope'"),
        ("meta_train", [], "output_dir"),
        ("meta_train", ["--output_dir=x", "stray"], "stray"),
        (
            "meta_train",
            ["--task=quadratics", "--unroll_length=30", "--output_dir=x"],
            "`unroll_length` must divide `horizon`",
        ),
        (
            "meta_train",
            ["--dataset=fashion_mnist", "--data_dir=x", "--output_dir=x"],
            "--download",
        ),
        (
            "meta_train",
            ["--task=quadratics", "--output_dir=.."],
            "new or empty",
        ),
        (
            "meta_train",
            ["--task=quadratics", "--output_dir=bad.json/run"],
            "Not a directory",
        ),
        (
            "meta_train",
            ["--task=quadratics", "--replay=3", "--output_dir=x"],
            "x/config.json",
        ),
        (
            "evaluate",
            ["--preset=l2l_digits_mlp"] * 2 + ["--output=x/e.json"],
            "Rename or copy a folder",
        ),
        (
            "evaluate",
            [
                "--preset=l2l_digits_mlp",
                "--tuned=sgd",
                "--baselines=x",
                "--output=x/e.json",
            ],
            "Leave one of them out",
        ),
        (
            "evaluate",
            ["--preset=nope", "--output=x/e.json"],
            "l2l_digits_mlp",
        ),
        ("evaluate", ["--preset=l2l_digits_mlp", "--output=.."], "must be new"),
        ("plot", ["--input=nope.json", "--output=x.png"], "nope.json"),
        (
            "plot",
            ["--input=bad.json", "--output=x.png"],
            "without horizon",
        ),
        ("fit", ["--preset=nope"], "l2l_digits_mlp"),
        ("export", ["--output=x"], "preset"),
        ("export", ["--preset=nope", "--output=x"], "l2l_digits_mlp"),
        (
            "export",
            ["--preset=l2l_digits_mlp", "--output=.."],
            "new or empty",
        ),
        (
            "export",
            ["--model=nope.keras", "--batch=bad.json", "--output=x"],
            "nope.keras",
        ),
        (
            "export",
            ["--model=model.keras", "--batch=bad.json", "--output=x"],
            "arrays x and y",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_users_mistake_ends_in_one_message(tmp_path, script, flags, message):
    (tmp_path / "bad.json").write_text('{"results": 3}')
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    done = forked.run(script, *flags, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()
