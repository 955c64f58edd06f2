"""The history, the logs and the progress bar of a run."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_l2l.estimators import meta_loss
from keras_l2l.utils.divergence import inf_if_diverged


class Recorder:
    """History, TensorBoard scalars and the progress bar of a run.

    Args:
        log_dir: Path of the folder for TensorBoard; `None` for no logs.
        options: `keras_l2l.meta_training.options.RunOptions`.
        verbose: 0 or 1.

    Attributes:
        history: Dict, see
            `keras_l2l.meta_training.meta_train.MetaTrainingResult`.
        meta_steps: Int, meta-steps of the run.
    """

    def __init__(self, log_dir, options, verbose):
        self.history = {
            "meta_loss": [],
            "meta_gradient_norm": [],
            "clipped": [],
            "validation": [],
            "skipped": [],
        }
        self._log_dir = log_dir
        self._writer = tf.summary.create_noop_writer()
        unroll_length = options.estimator.unroll_length
        # The bar shows the mean over an episode, within which losses fall.
        self._unrolls = options.horizon // unroll_length
        self._inner_steps = options.meta_batch_size * unroll_length
        self._clipnorm = options.meta_optimizer.clipnorm
        # Then validations have geometric means, and the final loss is that of
        # the last fiftieth of the steps.
        self._geometric = options.estimator.loss_weights == "log"
        self._held_out = options.estimator.held_out
        self._clock = time.perf_counter()
        self.meta_steps = options.meta_steps
        self._verbose = verbose
        self._first, self._progress = 0, None

    def start(self, meta_step):
        """Starts a log file, for what comes from `meta_step` on.

        Logs of a run that got further, and goes on from here, are removed.
        """
        if self._log_dir is None:
            return
        for path in self._log_dir.glob("*.from_*"):
            start = path.name.rpartition("_")[2]
            if start.isdecimal() and int(start) >= meta_step:
                path.unlink()
        self._writer = tf.summary.create_file_writer(
            str(self._log_dir), filename_suffix=f".from_{meta_step}"
        )

    def finish(self):
        """Ends the log file: all that was recorded is on the disk."""
        self._writer.close()

    def validation(self, meta_step, losses):
        """Records the losses of a validation.

        Returns:
            Float, its final loss; inf if it has diverged.

        Raises:
            ValueError: if a geometric mean is asked for of negative losses.
        """
        last = losses[:, -1]
        mean = tf.reduce_mean
        if self._geometric:
            if not self._held_out:
                # Of batches, as noisy as they are few.
                last = losses[:, -max(1, losses.shape[1] // 50) :]
            mean = _geometric_mean
            lowest = float(tf.reduce_min(losses))
            if lowest <= -meta_loss.SMALLEST:
                meta_loss.refuse_negative(lowest)
        values = {
            "mean_loss": float(mean(losses)),
            "final_loss": float(mean(last)),
        }
        self.history["validation"].append({"meta_step": meta_step, **values})
        self._scalars("validation/", values, meta_step)
        self._clock = time.perf_counter()
        return float(inf_if_diverged(values["final_loss"]))

    def meta_step(self, meta_step, result, best_loss):
        """Records a `MetaStep`.

        Raises:
            ValueError: if it had to take the logarithm of a negative loss.
        """
        if self._geometric and result.meta_loss == -np.inf:
            meta_loss.refuse_negative(f"-{meta_loss.SMALLEST} or less")
        values = {
            "meta_loss": result.meta_loss,
            "meta_gradient_norm": result.meta_gradient_norm,
            "clipped": float(
                self._clipnorm is not None
                and result.meta_gradient_norm > self._clipnorm
            ),
        }
        if not result.finite:
            self.history["skipped"].append(
                {"meta_step": meta_step, "seeds": result.seeds}
            )
        for name, value in values.items():
            self.history[name].append(value)
        clock = time.perf_counter()
        rate = self._inner_steps / (clock - self._clock)
        self._clock = clock
        self._scalars("", {**values, "inner_steps_per_second": rate}, meta_step)
        episode = self.history["meta_loss"][-self._unrolls :]
        if self._progress is None:
            self._first, self._progress = meta_step, self._bar(meta_step)
        self._progress.update(
            meta_step + 1 - self._first,
            [
                ("meta_loss", float(np.mean(inf_if_diverged(episode)))),
                ("inner_steps/s", rate),
                ("best_validation_final_loss", best_loss),
            ],
        )

    def _bar(self, meta_step):
        # Of what is left: else those that an earlier process took would
        # count as taken in no time.
        return keras.utils.Progbar(
            self.meta_steps - meta_step,
            verbose=self._verbose,
            interval=0.5,
            stateful_metrics=["meta_loss", "best_validation_final_loss"],
            unit_name="meta_step",
        )

    def _scalars(self, prefix, values, meta_step):
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(prefix + name, value, meta_step)


def _geometric_mean(losses):
    # As the meta-loss sees them.
    logarithms = tf.math.log(losses + meta_loss.SMALLEST)
    return tf.exp(tf.reduce_mean(logarithms)) - meta_loss.SMALLEST
