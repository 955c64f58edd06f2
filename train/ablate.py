"""Compares the options for long horizons, one at a time.

For each variant a short run of the experiment "long", in a folder in
--output_dir. Writes ablations.json there, and prints it as a table: the best
validation of each, geometric means over networks that none was meta-trained
on. The same command continues a comparison that was stopped. Example:

  python -m train.ablate --data_dir=runs/tfds --output_dir=runs/ablations
"""

import pathlib
import subprocess
import sys

from absl import flags

from keras_l2l.utils import files
from keras_l2l.utils.divergence import inf_if_diverged
from keras_l2l.utils.versions import versions
from train import benchmark
from train import cli

# Flags beside the experiment's, of all variants.
BASE = (
    "--experiment=long",
    "--task=networks_few",
    "--meta_batch_size=5",
    "--horizon=3000",
    "--unroll_length=250",
    "--meta_steps=100",
    "--validation_interval=50",
)
# Flags beside those.
VARIANTS = {
    "as it is": (),
    "all episodes whole": ("--nolog_uniform_horizons",),
    "a curriculum": ("--first_horizon=250",),
    "a teacher": (
        "--estimator=imitation",
        "--teacher=adam",
        "--teacher_learning_rate=0.001",
        "--imitation_weight=0.1",
    ),
    "evolution strategies": ("--estimator=es",),
    "persistent ES": ("--estimator=persistent_es",),
}


def define_flags():
    cli.define_data_flags()
    flags.adopt_module_key_flags(cli)
    flags.DEFINE_string("output_dir", None, "Folder.", required=True)


def main():
    values = flags.FLAGS
    folder = pathlib.Path(values.output_dir)
    rows = []
    for name, given in VARIANTS.items():
        run = folder / name.replace(" ", "_")
        if not (run / "history.json").exists():
            _meta_train(values, given, run)
        rows.append(_row(name, given, files.read_json(run / "history.json")))
    files.write_json(
        folder / "ablations.json",
        {
            "benchmark": "ablations",
            "command": " ".join(("train.meta_train", *BASE)),
            "versions": versions(),
            "rows": rows,
        },
    )
    print(benchmark.format_table(rows))
    print(f"Written: {folder}/ablations.json")


def _meta_train(values, given, run):
    """Meta-trains in a process of its own, whose memory is free after it."""
    command = [
        *(sys.executable, "-m", "train.meta_train", *BASE, *given),
        f"--output_dir={run}",
        f"--download={values.download}",
        "--resume",
    ]
    if values.data_dir is not None:
        command.append(f"--data_dir={values.data_dir}")
    print(f"{run.name}:", *given, flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        # It has said why.
        sys.exit(done.returncode)


def _row(name, given, history):
    """Returns the best validation of a run, a dict."""
    best = min(
        history["validation"], key=lambda v: inf_if_diverged(v["final_loss"])
    )
    return {
        "variant": name,
        "flags": " ".join(given) or "-",
        "best_at": best["meta_step"],
        "mean_loss": best["mean_loss"],
        "final_loss": best["final_loss"],
        "minutes": history["seconds"] / 60,
    }


if __name__ == "__main__":
    define_flags()
    cli.run(main)
