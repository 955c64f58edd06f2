"""`LearnedOptimizer`: a Keras optimizer around a learned update rule."""

import functools
import math
import os
import typing
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_l2l import presets as presets_lib
from keras_l2l.optimizer import describe
from keras_l2l.optimizer import execution
from keras_l2l.optimizer import mistakes
from keras_l2l.optimizer import programs
from keras_l2l.optimizer import skipped_steps
from keras_l2l.optimizer import state_storage
from keras_l2l.optimizer import update_hook
from keras_l2l.optimizer import wrappers
from keras_l2l.optimizer.end_of_fit import EndOfFit
from keras_l2l.optimizer.first_step import FirstStep
from keras_l2l.optimizer.loss import SeenLoss
from keras_l2l.optimizer.saving import SavedVariables
from keras_l2l.presets import named_arrays
from keras_l2l.rules import base
from keras_l2l.rules import gradients as gradients_lib
from keras_l2l.rules import serialization
from keras_l2l.utils import backends
from keras_l2l.utils import checks
from keras_l2l.utils import nests


@keras.saving.register_keras_serializable(package="keras_l2l")
class LearnedOptimizer(update_hook.WholeModelOptimizer):
    """Optimizer whose update is emitted by a learned rule.

    ```
    updates, state = rule.step(meta_params, gradients, state)
    variable = variable + learning_rate * update
    ```

    Without arguments it is the preset `"l2l_varied"`, a learned mixture of
    momenta for full training runs. Tell it the length of the training, by
    `num_steps` or `keras_l2l.TrainingLength`: it then makes its steps small in
    the end. For the first hundred steps of a small model, the LSTM
    `"l2l_fashion_mnist_mlp"` is faster. Where Keras takes a string, it is
    `"keras_l2l>LearnedOptimizer"`.

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule`
            or callable without arguments; multiplies the emitted update.
            Defaults to 1.0, the rate that rules are meta-trained with.
        rule: `keras_l2l.UpdateRule`; or a string or path, the name of a
            preset (see `LearnedOptimizer.presets`), a preset folder or a
            preset on a hub, as `"hf://user/name"`; a
            `keras_l2l.presets.Preset`; or `None`, the default preset.
        meta_params: Nest of tensors as from `rule.init_meta_params`. Only
            with `rule` an `UpdateRule`; `None` draws fresh ones, which have
            learned nothing yet.
        weight_decay: Float. Each step subtracts
            `variable * weight_decay * learning_rate`: with a learning rate of
            1.0, 0.004 means 0.4 % a step.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor,
            gradient_accumulation_steps: as in `keras.optimizers.Adam`.
        save_state: Bool, whether saved models hold the rule's state, which is
            80 times as large as the weights for the paper's LSTM. Without it,
            training continues with a fresh state. A `LossScaleOptimizer`
            around this one always saves it. Defaults to `True`.
        horizon: Int, the steps that the rule was meta-trained for. A `fit`
            that ends beyond ten times as many warns. `None` is the preset's.
        state_dtype: `"float32"` (the default), or `"bfloat16"`, which takes
            half of the memory and rounds the state to 8 bits after each step.
            For rules that allow it, such as `CoordinatewiseLSTM`.
        num_steps: Int, the planned length of the training in steps, for rules
            that depend on it, as the default does: their updates get smaller
            towards the end. `None` if it is not known;
            `keras_l2l.TrainingLength` finds it out in `fit`.
        name: String.

    Raises:
        ValueError: if `rule`, `state_dtype`, `horizon` or `num_steps` is none
            of the above or not for this rule, or `meta_params` are not the
            rule's.

    Example:
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras_l2l.LearnedOptimizer(), loss="mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)

    Reference:
        Andrychowicz et al., 2016 (arXiv 1606.04474), section 2; of the default,
        Metz et al., 2022 (arXiv 2203.11860).
    """

    presets = presets_lib.ShippedPresets()
    # Keras makes the first variables before there is one.
    saved_variables = None

    def __init__(
        self,
        learning_rate: float
        | keras.optimizers.schedules.LearningRateSchedule
        | Callable[[], typing.Any] = 1.0,
        rule: base.UpdateRule
        | presets_lib.Preset
        | str
        | os.PathLike[str]
        | None = None,
        meta_params: typing.Any = None,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        save_state: bool = True,
        state_dtype: str = "float32",
        horizon: int | None = None,
        num_steps: int | None = None,
        name: str | None = None,
        **kwargs: typing.Any,
    ) -> None:
        mistakes.check_arguments(learning_rate, kwargs)
        preset = presets_lib.resolve(rule, meta_params)
        horizon = preset.horizon if horizon is None else horizon
        if horizon is not None:
            horizon = checks.require_int("horizon", horizon)
        super().__init__(
            learning_rate=learning_rate,
            name=name,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            **kwargs,
        )
        if mistakes.is_learned(preset.rule, preset.meta_params):
            mistakes.warn_of_small_rate(learning_rate)
            mistakes.warn_of_strong_decay(weight_decay, learning_rate)
        # Without a length, which `num_steps` and `set_num_steps` tell it.
        self._given_rule, self._told = preset.rule, None
        self._num_steps = mistakes.check_num_steps(num_steps, preset.rule)
        self.rule = self._rule_for(num_steps)
        self.preset = presets_lib.name_of(rule)
        self.horizon = horizon
        self.saved_variables = SavedVariables(self)
        self.save_state = save_state
        self._losses = SeenLoss(self.rule, gradient_accumulation_steps)
        self._loss = None
        self._end_of_fit = EndOfFit(horizon)
        self._first_step = FirstStep()
        self._storage = state_storage.Storage(
            state_dtype, self.rule.rounds_state
        )
        # Flat lists only: Keras wraps nested containers in tracked ones.
        self._meta_params = [
            # A copy on JAX, which gives the arrays of variables away.
            self.add_leaf(
                f"meta_params/{path}",
                v.shape,
                functools.partial(ops.array, v),
                "float32",
            )
            for path, v in nests.named_leaves(preset.meta_params)
        ]
        self._pack_meta_params = nests.packer(preset.meta_params)
        self._state, self._seen = [], []
        # One for each device: what TensorFlow traces on a replica holds on to
        # that replica's part of the variables.
        self._eager_step = functools.cache(
            lambda device: backends.compiled(
                functools.partial(self._step, device), jit_compile=False
            )
        )

    @classmethod
    def from_preset(
        cls, name_or_dir: str | os.PathLike[str], **kwargs: typing.Any
    ) -> typing.Self:
        """Returns an optimizer with a preset's rule and meta-parameters.

        Args:
            name_or_dir: Name of a preset in `LearnedOptimizer.presets`, a
                preset folder, or a preset on a hub: `"hf://user/name"` or
                `"kaggle://user/model/keras/variation"`.
            **kwargs: Other arguments of `LearnedOptimizer`, and of the rule:
                `num_steps=1000`, for example, where the rule takes it.

        Raises:
            keras_l2l.presets.PresetError: if there is no such preset, or a
                file of it is missing, damaged or foreign.
        """
        preset = presets_lib.load_preset(name_or_dir)
        kwargs.setdefault("horizon", preset.horizon)
        rule, kwargs = serialization.configured(preset.rule, kwargs, cls)
        optimizer = cls(rule=rule, meta_params=preset.meta_params, **kwargs)
        optimizer.preset = presets_lib.name_of(name_or_dir)
        return optimizer

    def save_to_preset(self, directory: str | os.PathLike[str]) -> None:
        """Writes rule and meta-parameters to a new or empty folder.

        The length of this training is not written: a preset is for others.

        Raises:
            FileExistsError: if the folder is not empty.
        """
        presets_lib.save_preset(
            self._given_rule, self.meta_params, directory, self.horizon
        )

    def __repr__(self):
        return describe.optimizer(self)

    @keras.optimizers.Optimizer.learning_rate.setter
    def learning_rate(self, learning_rate):
        # As LearningRateScheduler does; later it may well become small.
        learned = mistakes.is_learned(self.rule, self._meta_params)
        if learned and describe.steps(self) == 0:
            mistakes.warn_of_small_rate(learning_rate)
        keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)

    @property
    def meta_params(self) -> typing.Any:
        """The meta-parameters, a nest of `keras.Variable`s."""
        return self._pack_meta_params(self._meta_params)

    def build(self, variables):
        if self.built:
            return
        # Variables that are made while a train step is traced take longer.
        with backends.outside_graphs():
            self._build(variables)
            if self.observer is not None:
                self.make_observer()

    def _build(self, variables):
        self.saved_variables.start_build(variables)
        super().build(variables)
        variables = self._updated_variables()
        self.rule = self.rule.for_variables(variables)
        shapes = [tuple(v.shape) for v in variables]
        run = execution.execution_of(self.rule, self._storage)
        divided = run.divide(shapes)
        spec = [run.state_spec(s) for s in divided.shapes]
        self._division = divided
        self._pack_state = nests.packer(spec)
        with self.colocated(variables):
            initial = run.initial(divided.shapes)
            for path, leaf in nests.named_leaves(spec):
                name, dtype = f"state/{path}", self._storage.variable_dtype
                self._state.append(
                    self.add_leaf(
                        name, leaf.shape, lambda p=path: initial(p), dtype
                    )
                )
            if not self.rule.rests_without_gradient:
                self._seen = [
                    self.add_leaf(
                        f"seen/{i}",
                        shape,
                        lambda s=shape: ops.zeros(s, "bool"),
                        "bool",
                    )
                    for i, shape in enumerate(shapes)
                ]
            self.skipped_steps = self.add_leaf(
                "skipped_steps", (), lambda: ops.zeros((), "int32"), "int"
            )
        self.saved_variables.end_build()

    def add_variable(
        self,
        shape: tuple[int, ...],
        initializer: typing.Any = "zeros",
        **kwargs: typing.Any,
    ) -> keras.Variable:
        if self.saved_variables is not None:
            initializer = self.saved_variables.initializer(
                shape, kwargs.get("name"), kwargs.get("dtype"), initializer
            )
        return super().add_variable(shape, initializer, **kwargs)

    def save_own_variables(self, store: typing.Any) -> None:
        self.saved_variables.save(store)

    def load_own_variables(self, store: typing.Any) -> None:
        if store.keys():
            self.saved_variables.load(store)
        else:
            # Saved without an optimizer, or under another dtype policy, where
            # it stood in no LossScaleOptimizer. Keras warns.
            super().load_own_variables(store)

    def set_num_steps(
        self, num_steps: int, steps_per_epoch: float | None = None
    ) -> None:
        """Tells a rule that depends on it how long the training is.

        It can be called again, for a longer training, also after loading.
        Nothing changes where `num_steps` was an argument of the optimizer or
        of the rule. A function that has been traced keeps what it knew.

        Args:
            num_steps: Int >= 1, steps of this optimizer, from its first.
            steps_per_epoch: Number > 0, those in which every example is seen
                once, or `None`.

        Raises:
            ValueError: if an argument is none of these.
        """
        num_steps = checks.require_int("num_steps", num_steps)
        if steps_per_epoch is not None:
            checks.require_positive("steps_per_epoch", steps_per_epoch)
        told = num_steps, steps_per_epoch
        if told == self._told:
            return
        self._told = told
        self.rule = self._rule_for(self._num_steps).for_num_steps(*told)
        if self.built:
            self.rule = self.rule.for_variables(self._updated_variables())
        self._eager_step.cache_clear()

    def _rule_for(self, num_steps):
        if num_steps is None:
            return self._given_rule
        return self._given_rule.for_num_steps(num_steps)

    def state_parts(self) -> list[typing.Any]:
        """Returns the rule's state: a nest of variables for each part."""
        return self._pack_state(self._state)

    def remarks(self) -> list[str]:
        """Returns what there is to tell of the training, a list of strings."""
        if not self.built:
            return []
        found = skipped_steps.remarks(self, self.skipped_steps)
        for part in self.state_parts():
            found += self.rule.remarks(part, self.steps_taken())
        return list(dict.fromkeys(found))

    def finalize_variable_values(
        self, var_list: Sequence[keras.Variable]
    ) -> None:
        """Tells what there is to tell; Keras calls it at the end of `fit`."""
        if not all(map(backends.has_value, self.variables)):
            # An error has ended this `fit`, and is on its way to the user.
            return
        super().finalize_variable_values(var_list)
        self._end_of_fit.tell(self.remarks(), self.steps_taken())

    def steps_taken(self) -> int:
        """Returns the number of updates so far."""
        return backends.number(self.iterations)

    def estimate_memory(self, model: keras.Model) -> int:
        """Returns the bytes of state that training a model will take.

        Args:
            model: Built `keras.Model`. Nothing is allocated.

        Raises:
            ValueError: if the model is not built.
        """
        if not isinstance(model, keras.Model) or not model.built:
            raise ValueError(
                f"`model` must be a built keras.Model. Received: {model!r}. "
                "Call model.build(input_shape) first."
            )
        variables = model.trainable_variables
        shapes = [tuple(v.shape) for v in variables]
        rule = self.rule.for_variables(variables)
        run = execution.execution_of(rule, self._storage)
        return self._state_bytes(rule, run.state_spec(shapes), shapes)

    def _state_bytes(self, rule, spec, shapes):
        found = self._storage.bytes_per_float * nests.count_params(spec)
        if not rule.rests_without_gradient:
            found += sum(map(math.prod, shapes))
        return found

    def _updated_variables(self):
        """Returns the variables that the rule updates."""
        # Keras overwrites the others with their gradients.
        return [
            v
            for v in self._trainable_variables
            if not self._overwrite_variable_with_gradient(v)
        ]

    def scale_loss(self, loss: typing.Any) -> typing.Any:
        return super().scale_loss(self.see_loss(loss))

    def see_loss(self, loss: typing.Any) -> typing.Any:
        """Shows the optimizer a loss that is not scaled, and returns it."""
        return self._losses.see(loss)

    @backends.without_autograph
    def apply(
        self,
        grads: Sequence[typing.Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        self._loss = self._losses.take(grads, self._iterations)
        with backends.for_updates():
            super().apply(grads, trainable_variables)
        self._loss = None

    def count_step(
        self, counter: typing.Any, grads: Sequence[typing.Any]
    ) -> bool:
        if skipped_steps.are_surely_finite(grads):
            return True
        skips = programs.if_eager("skips", skipped_steps.skips, grads)
        self.assign_add(counter, ops.cast(skips, counter.dtype))
        return False

    def update(
        self,
        grads: Sequence[typing.Any],
        variables: Sequence[typing.Any],
        learning_rate: typing.Any,
        device: str | None,
        finite: bool = False,
    ) -> None:
        updated = self._updated_variables()
        shapes = [tuple(v.shape) for v in updated]
        self._first_step.watch(self, shapes)
        by_variable = {
            self._var_key(v): g for g, v in zip(grads, variables, strict=True)
        }
        if len(by_variable) < len(variables):
            raise ValueError(
                "Each variable must be given once, with the sum of its "
                f"gradients. Received: {len(variables)} variables, of which "
                f"{len(by_variable)} are different."
            )
        received = programs.if_eager(
            ["received", shapes, finite],
            lambda grads, seen: gradients_lib.received(
                grads, shapes, seen, finite=finite
            ),
            [by_variable.get(self._var_key(v)) for v in updated],
            list(map(backends.read, self._seen)),
        )
        for variable, value in zip(self._seen, received.seen, strict=True):
            self.assign(variable, value)
        gradients = self._division.split(received.gradients)
        masks = [None] * len(gradients)
        if received.mask is not None:
            masks = self._division.split(received.mask)
        step = self._eager_step(device)
        if backends.is_tracing():
            step = functools.partial(self._step, device)
        rate = ops.cast(learning_rate, "float32")
        updates = self._division.join(
            [
                step(part, rate, self._loss, *inputs)
                for part, inputs in enumerate(
                    zip(gradients, masks, strict=True)
                )
            ]
        )
        self.observe(received, updates)
        self.add_to(updated, updates)
        for state in self._pack_state(list(map(backends.read, self._state))):
            self.replace_values(updated, self.rule.replacements(state) or [])

    def _step(self, device, part, rate, loss, gradients, mask):
        """Moves the state of one part on, and returns what to add."""
        variables = self._updated_variables()
        params = variables
        if not self.rule.uses_params:
            params = [None] * len(variables)
        inputs = base.StepInputs(
            gradients=gradients,
            # Of this part alone: a deep model has hundreds.
            params=[
                p if p is None else ops.cast(backends.read(p), "float32")
                for p in self._division.split(params)[part]
            ],
            loss=loss,
            iteration=backends.read(self.iterations),
            mask=mask,
            # Of all parts.
            model_size=np.float32(sum(math.prod(v.shape) for v in variables)),
        )
        state = [backends.of_device(v, device) for v in self._state]
        # Of the rule that it is now: `set_num_steps` may have replaced it.
        run = execution.execution_of(self.rule, self._storage)
        return run.step(
            rate,
            self._pack_meta_params(list(map(backends.read, self._meta_params))),
            inputs,
            self._pack_state(state)[part],
        )

    def get_config(self) -> dict[str, typing.Any]:
        # With the values: Keras rebuilds an optimizer from this alone in
        # `from_config`, `clone` and `pickle`, and without saved variables.
        return {
            **super().get_config(),
            "preset": self.preset,
            "save_state": self.save_state,
            "horizon": self.horizon,
            "state_dtype": self._storage.dtype,
            "rule": serialization.serialize(self._given_rule),
            # Lengths are no arguments of the rule.
            **(
                {}
                if self._num_steps is None
                else {"num_steps": self._num_steps}
            ),
            **({} if self._told is None else {"told": list(self._told)}),
            "meta_params": named_arrays.encode(self.rule, self.meta_params),
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, typing.Any],
        custom_objects: dict[str, typing.Any] | None = None,
    ) -> typing.Self:
        if "rule" in config:
            with keras.saving.custom_object_scope(custom_objects or {}):
                rule = serialization.deserialize(config["rule"])
            meta_params = named_arrays.decode(rule, config["meta_params"])
            config = {**config, "rule": rule, "meta_params": meta_params}
        # Without values, as from the optimizer's name, it is the default.
        named = {"preset": config.pop("preset")} if "preset" in config else {}
        config = dict(config)
        saved_for = bytes.fromhex(config.pop("saved_for", ""))
        told = config.pop("told", None)
        optimizer = super().from_config(config, custom_objects)
        vars(optimizer).update(named)
        if told is not None:
            optimizer.set_num_steps(*told)
        # Of earlier versions, whose files of variables hold no digest.
        optimizer.saved_variables.saved_for = saved_for or None
        return optimizer


wrappers.let_through(LearnedOptimizer)
