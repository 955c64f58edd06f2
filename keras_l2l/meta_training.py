"""Meta-training: fits a rule's meta-parameters to a task."""

import time
import typing

import keras
import tensorflow as tf

from keras_l2l import checks
from keras_l2l import presets
from keras_l2l import runs
from keras_l2l import unroll as unroll_lib
from keras_l2l.estimators import Episode
from keras_l2l.estimators import TruncatedBackprop
from keras_l2l.recorder import Recorder
from keras_l2l.rules import serialize
from keras_l2l.tasks.base import split_seed


class MetaTrainingResult(typing.NamedTuple):
    """What `meta_train` returns and, in `output_dir`, writes.

    Attributes:
        meta_params: Nest of tensors, the best on the validation episodes.
        history: Dict of lists, one value per meta-step: `meta_loss` and
            `meta_gradient_norm`; and one per validation: `validation`, dicts
            with `meta_step`, `mean_loss`, `final_loss`.
    """

    meta_params: typing.Any
    history: dict


def meta_train(
    rule,
    task,
    output_dir,
    horizon=100,
    unroll_length=20,
    meta_batch_size=1,
    meta_learning_rate=0.004,
    meta_steps=4000,
    clipnorm=1.0,
    second_derivatives=False,
    validation_interval=250,
    validation_episodes=16,
    seed=0,
    verbose=1,
):
    """Meta-trains a rule by truncated backpropagation through time.

    Each meta-step unrolls `meta_batch_size` episodes by `unroll_length` inner
    steps and applies Adam, with a cosine decay to 0, to the mean
    meta-gradient. After `horizon` inner steps the episodes start afresh, with
    new initial parameters and batches. Every `validation_interval` meta-steps
    whole episodes on the split `meta_valid` are run; the meta-parameters with
    the lowest final loss there are the result.

    Writes to `output_dir`: `config.json` (all that reproduces the run),
    `preset/` (for `LearnedOptimizer.from_preset`), `history.json` and `logs/`
    (for TensorBoard).

    Args:
        rule: `UpdateRule`.
        task: `Task` or `TaskFamily`.
        output_dir: Path of a new or empty folder.
        horizon: Int, inner steps in an episode; a multiple of
            `unroll_length`.
        unroll_length: Int, inner steps per meta-step.
        meta_batch_size: Int, episodes that run side by side.
        meta_learning_rate: Float, Adam's initial learning rate.
        meta_steps: Int, number of meta-steps.
        clipnorm: Float, largest norm of a meta-gradient; `None` for no limit.
        second_derivatives: Bool, see `keras_l2l.unroll.unroll`.
        validation_interval: Int, meta-steps between validations.
        validation_episodes: Int.
        seed: Int >= 0; the whole run is repeatable from it.
        verbose: 0 for silence, 1 for a progress bar.

    Returns:
        `MetaTrainingResult`.

    Raises:
        FileExistsError: if `output_dir` holds something.
        ValueError: if an argument is out of its range, or `unroll_length`
            does not divide `horizon`.

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 3.
    """
    arguments = {
        name: value
        for name, value in locals().items()
        if name not in ("rule", "task", "output_dir", "verbose")
    }
    _check(arguments)
    estimator = TruncatedBackprop(
        rule, task, horizon, unroll_length, second_derivatives
    )
    output_dir = runs.require_empty(output_dir)
    config = {
        "rule": serialize(rule),
        "task": {"name": task.name, "config": task.get_config()},
        "estimator": type(estimator).__name__,
        **arguments,
        "versions": runs.versions(),
    }
    runs.write_json(output_dir / "config.json", config)
    run = _Run(
        estimator,
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                meta_learning_rate, meta_steps
            ),
            global_clipnorm=clipnorm,
        ),
        meta_batch_size,
        validation_episodes,
        seed,
    )
    recorder = Recorder(
        output_dir / "logs",
        meta_steps,
        unrolls=horizon // unroll_length,
        inner_steps=meta_batch_size * unroll_length,
        verbose=verbose,
    )
    start = time.perf_counter()
    best = _loop(run, recorder, meta_steps, validation_interval)
    history = recorder.history
    history["seconds"] = round(time.perf_counter() - start, 1)
    presets.save_preset(rule, best, output_dir / "preset")
    runs.write_json(output_dir / "history.json", history)
    return MetaTrainingResult(best, history)


def _check(arguments):
    for name in (
        "meta_batch_size",
        "meta_steps",
        "validation_interval",
        "validation_episodes",
    ):
        checks.require_int(name, arguments[name])
    checks.require_int("seed", arguments["seed"], minimum=0)
    checks.require_positive(
        "meta_learning_rate", arguments["meta_learning_rate"]
    )


def _loop(run, recorder, meta_steps, validation_interval):
    """Runs all meta-steps; returns the best meta-parameters."""
    best_loss, best = float("inf"), None
    for meta_step in range(meta_steps + 1):
        last = meta_step == meta_steps
        if meta_step % validation_interval == 0 or last:
            losses = run.validate()
            final_loss = recorder.validation(meta_step, losses)
            # The first is kept even if it is not finite.
            if best is None or final_loss < best_loss:
                best_loss, best = final_loss, run.meta_params()
        if not last:
            recorder.meta_step(meta_step, *run.meta_step(meta_step), best_loss)
    return best


class _Run:
    """The state of a run: meta-parameters, meta-optimizer and episodes."""

    def __init__(
        self, estimator, meta_optimizer, meta_batch_size, validation, seed
    ):
        self._estimator = estimator
        self._meta_optimizer = meta_optimizer
        self._meta_batch_size = meta_batch_size
        self._seed = seed
        self._episodes = []
        meta_params = estimator.rule.init_meta_params(seed)
        self._structure = meta_params
        self._variables = [
            keras.Variable(value) for value in tf.nest.flatten(meta_params)
        ]
        meta_optimizer.build(self._variables)
        self._validation = [
            self._validation_episode(split_seed("meta_valid", i))
            for i in range(validation)
        ]

    def meta_params(self):
        return tf.nest.pack_sequence_as(
            self._structure,
            [tf.identity(v.value) for v in self._variables],
        )

    def meta_step(self, meta_step):
        """Returns `(meta_loss, meta_gradient_norm)` of one meta-step."""
        unrolls = self._estimator.horizon // self._estimator.unroll_length
        if meta_step % unrolls == 0:
            # Runs with different seeds share no episode.
            first = self._seed * 2**32
            first += meta_step // unrolls * self._meta_batch_size
            self._episodes = [
                self._estimator.init(first + i)
                for i in range(self._meta_batch_size)
            ]
        meta_loss, norm, self._episodes = self._meta_step(
            self._episodes, tf.constant(meta_step)
        )
        return float(meta_loss), float(norm)

    @tf.function(autograph=False)
    def _meta_step(self, episodes, seed):
        meta_params = self.meta_params()
        # Calls of one traced function: they run side by side on the cores,
        # and the trace does not grow with the meta-batch.
        gradients, meta_losses, episodes = zip(
            *[
                self._estimator.estimate(meta_params, episode, seed)
                for episode in episodes
            ],
            strict=True,
        )
        gradient = [
            tf.add_n(g) / len(g)
            for g in zip(*map(tf.nest.flatten, gradients), strict=True)
        ]
        self._meta_optimizer.apply(gradient, self._variables)
        return (
            tf.reduce_mean(meta_losses),
            tf.linalg.global_norm(gradient),
            list(episodes),
        )

    def _validation_episode(self, seed):
        seed = tf.constant(seed, tf.int64)
        task = self._estimator.task.sample(seed)
        return Episode(
            seed, unroll_lib.init_carry(self._estimator.rule, task, seed)
        )

    @tf.function(autograph=False)
    def validate(self):
        """Returns the losses of all validation episodes, `[n, horizon]`."""
        meta_params = self.meta_params()
        return tf.stack(
            [
                self._validation_losses(meta_params, episode)
                for episode in self._validation
            ]
        )

    @tf.function(autograph=False)
    def _validation_losses(self, meta_params, episode):
        task = self._estimator.task.sample(episode.seed)
        losses, _ = unroll_lib.unroll(
            self._estimator.rule,
            task,
            meta_params,
            episode.carry,
            task.batches("meta_valid", episode.seed),
            self._estimator.horizon,
        )
        return losses
