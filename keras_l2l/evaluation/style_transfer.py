"""The pictures that optimizers make in style transfer."""

import functools

from keras_l2l import evaluation
from keras_l2l.tasks.base import check_task
from keras_l2l.tasks.base import split_seed
from keras_l2l.tasks.neural_art import NeuralArt
from keras_l2l.tasks.neural_art import to_pixels


def pictures(task, learned, results, seeds=range(3)):
    """Returns content images, initial pictures and those after training.

    Args:
        task: `keras_l2l.tasks.NeuralArt`.
        learned: Function without arguments that returns a new learned
            optimizer.
        results: Dict as from `keras_l2l.evaluation.evaluate`, with the
            horizon, the split and the learning rate of each baseline that is
            tuned for the final loss.
        seeds: Ints >= 0, each for one picture.

    Returns:
        Dict of `style`, the style image, and of lists with a picture for each
        seed: `content`, `start`, and one list for each optimizer, by name.
        Pictures are arrays `[height, width, 3]` of bytes.

    Raises:
        ValueError: if the task is not a `NeuralArt`, or `results` are those of
            another task.
    """
    check_task(task)
    evaluated = {k: results.get(k) for k in ("task", "task_config")}
    received = {"task": task.name, "task_config": task.get_config()}
    if not isinstance(task, NeuralArt) or evaluated != received:
        raise ValueError(
            "`task` must be the NeuralArt that was evaluated. Received: "
            f"{received}, and results of {evaluated}."
        )
    split = results["split"]
    episodes = [split_seed(split, seed) for seed in seeds]
    contents = task.contents[split]
    found = {
        "style": to_pixels(task.style_params),
        "content": [
            contents[int(task.content_index(split, seed))].numpy()
            for seed in episodes
        ],
        "start": [to_pixels(task.init_params(seed)[0]) for seed in episodes],
    }
    for name, make_optimizer in _optimizers(learned, results).items():
        finals = evaluation.final_params(
            make_optimizer, task, results["horizon"], split, seeds
        )
        found[name] = [to_pixels(picture) for (picture,) in finals]
    return found


def _optimizers(learned, results):
    """Returns a dict from names to functions that return an optimizer."""
    optimizers = {"learned": learned}
    for result in results["results"]:
        if "final_loss" in (result["tuned_for"] or ()):
            optimizers[result["optimizer"]] = functools.partial(
                evaluation.BASELINES[result["optimizer"]],
                result["learning_rate"],
            )
    return optimizers
