"""Meta-trains, evaluates and draws an experiment, such as those of the paper.

Writes to --output_dir the files of train.meta_train, meta_training.png (the
validations) for each stage, and for each test of the experiment
evaluation_NAME.json, curves_NAME.png and, in style transfer, pictures_NAME.png.
Takes the flags of train.meta_train. A run that was stopped continues when the
same command is called again. Examples:

  python -m train.reproduce --experiment=quadratics --output_dir=runs/q
  python -m train.reproduce --experiment=mnist --dataset=fashion_mnist \
      --download --output_dir=runs/fashion
"""

import pathlib

from absl import flags

from keras_l2l.evaluation import plots
from keras_l2l.utils import files
from train import cli
from train import evaluate
from train import experiments
from train import meta_flags
from train import meta_train
from train import plot


def define_flags():
    meta_flags.define_flags()
    flags.adopt_module_key_flags(cli)
    flags.adopt_module_key_flags(meta_flags)
    flags.mark_flag_as_required("experiment")


def main():
    values = flags.FLAGS
    if values.check or values.replay is not None:
        raise ValueError(
            "--check and --replay must be given to train.meta_train. Received: "
            "them, with train.reproduce."
        )
    values.resume = True
    meta_train.main()
    folder = pathlib.Path(values.output_dir)
    # There is a run in the folder or in that of each stage.
    for run in [folder, *sorted(folder.glob("stage_*"))]:
        history, figure = run / "history.json", run / "meta_training.png"
        if history.exists() and not figure.exists():
            plots.plot_meta_training(files.read_json(history), figure)
    tests = experiments.EXPERIMENTS[values.experiment].tests
    if values.quick:
        name, test = next(iter(tests.items()))
        tests = {name: test._replace(**experiments.QUICK_TEST)}
    for name, test in tests.items():
        evaluation = folder / f"evaluation_{name}.json"
        if not evaluation.exists():
            evaluate.compare(
                [folder / "preset"], test, evaluation, test.baselines
            )
        found = evaluate.read(evaluation, folder / "preset")
        curves = folder / f"curves_{name}.png"
        if not curves.exists():
            plots.plot_curves(found, curves)
        pictures = folder / f"pictures_{name}.png"
        if "neural_art" in test.task and not pictures.exists():
            plot.draw_pictures(
                folder / "preset",
                cli.make_task(test.task, test.dataset),
                found,
                pictures,
            )
    print(f"Everything is in {folder}/.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
