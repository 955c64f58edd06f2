"""Tasks whose parameters are rescaled at random."""

import tensorflow as tf

from keras_l2l.tasks import base
from keras_l2l.utils import checks


class Reparametrized(base.TaskFamily):
    """Task whose parameters are multiplied by random factors.

    ```
    factors = exp(uniform(-spread, spread))
    loss(params) = task.loss(factors * params)
    ```

    A rule that is meta-trained on it can't rely on the scale of gradients and
    updates.

    Args:
        task: `Task` or `TaskFamily`.
        spread: Positive float. Defaults to 3.0.
        per: `"coordinate"`, a factor for each coordinate (the default), or
            `"tensor"`, one for each tensor.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Lv, Jiang and Li, 2017 (arXiv 1703.03633), section 4.1, per coordinate;
        Metz et al., 2022 (arXiv 2203.11860), per tensor.
    """

    def __init__(
        self,
        task: base.TaskFamily,
        spread: float = 3.0,
        per: str = "coordinate",
    ) -> None:
        base.check_task(task)
        if per not in ("coordinate", "tensor"):
            raise ValueError(
                '`per` must be "coordinate" or "tensor". Received: '
                f"per={checks.shown(per)}"
            )
        self.task = task
        self.spread = checks.require_positive("spread", spread)
        self.per = per
        self.name = f"{task.name}_reparametrized"

    def sample(self, seed):
        return _Rescaled(self.task.sample(seed), self._factors(seed))

    def _factors(self, seed):
        """Returns a function from tensors to their factors."""

        def factors(params):
            return [
                tf.exp(
                    tf.random.stateless_uniform(
                        p.shape if self.per == "coordinate" else [],
                        base.random_key(seed, 4, i),
                        -self.spread,
                        self.spread,
                        p.dtype,
                        base.RANDOM,
                    )
                )
                for i, p in enumerate(params)
            ]

        return factors

    def variables(self):
        return self.task.variables()

    def get_config(self):
        return {
            "task": self.task.describe(),
            "spread": self.spread,
            "per": self.per,
        }


class _Rescaled(base.Task):
    def __init__(self, task, factors):
        self._task = task
        self._factors = factors
        self.name = task.name

    def _restored(self, params):
        return [
            p * f for p, f in zip(params, self._factors(params), strict=True)
        ]

    def init_params(self, seed):
        params = self._task.init_params(seed)
        return [
            p / f for p, f in zip(params, self._factors(params), strict=True)
        ]

    def batches(self, split, seed):
        return self._task.batches(split, seed)

    def steps_per_epoch(self, split):
        return self._task.steps_per_epoch(split)

    def loss(self, params, batch):
        return self._task.loss(self._restored(params), batch)

    def init_non_trainable(self, seed):
        return self._task.init_non_trainable(seed)

    def stateful_loss(self, params, non_trainable, batch):
        return self._task.stateful_loss(
            self._restored(params), non_trainable, batch
        )

    def metrics(self, params, non_trainable, split):
        params = self._restored([tf.convert_to_tensor(p) for p in params])
        return self._task.metrics(params, non_trainable, split)

    def get_config(self):
        return self._task.get_config()
