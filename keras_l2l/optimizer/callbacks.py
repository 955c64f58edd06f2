"""Keras callbacks."""

import typing

import keras

from keras_l2l.optimizer import describe
from keras_l2l.optimizer import wrappers
from keras_l2l.optimizer.learned_optimizer import LearnedOptimizer


class TrainingLength(keras.callbacks.Callback):
    """Tells the learned optimizer how many steps a `fit` will take.

    The default ends with a lower loss if it knows the length; rules such as
    `keras_l2l.rules.Celo` must know it. It is the number of steps taken so far
    plus those of this `fit`, whose end is that of the training. Another length
    compiles the step anew. Where `num_steps` was given to the optimizer, it
    stays. An epoch is supposed to have every example once: where it has not,
    pass `num_steps` to the optimizer.

    Raises:
        ValueError: if the model has no learned optimizer, or the data are of
            unknown length.

    Example:
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras_l2l.LearnedOptimizer(), loss="mse")
    >>> history = model.fit(
    ...     np.ones((8, 3)),
    ...     np.ones((8, 1)),
    ...     epochs=10,
    ...     callbacks=[keras_l2l.TrainingLength()],
    ...     verbose=0,
    ... )
    >>> model.optimizer.rule.num_steps
    10
    """

    def on_train_begin(self, logs: dict[str, typing.Any] | None = None) -> None:
        self._optimizers = wrappers.within(
            self.model.optimizer, LearnedOptimizer
        )
        if not self._optimizers:
            raise ValueError(
                "With TrainingLength, the model's optimizer must be or contain "
                "a LearnedOptimizer. Received: "
                f"{self.model.optimizer!r}. Leave the callback out."
            )
        if self.params["steps"] is None:
            raise ValueError(
                "TrainingLength must know how many batches an epoch has. "
                "Received: data of unknown length. Pass steps_per_epoch to "
                "fit, or num_steps to the rule instead of the callback."
            )

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, typing.Any] | None = None
    ) -> None:
        # Once in a `fit`, where its first epoch is known.
        before = [optimizer.rule for optimizer in self._optimizers]
        for optimizer in self._optimizers:
            # As the optimizer counts them: one for several batches.
            batches = optimizer.gradient_accumulation_steps or 1
            steps, left = self.params["steps"], self.params["epochs"] - epoch
            total = (describe.steps(optimizer) + steps * left) // batches
            optimizer.set_num_steps(max(1, total), steps / batches)
        if any(
            rule is not optimizer.rule
            for rule, optimizer in zip(before, self._optimizers, strict=True)
        ):
            # An earlier `fit` may have traced it without.
            self.model.make_train_function(force=True)
        self._optimizers = []
