"""Rules around other rules."""

import typing

from keras_l2l.rules.base import UpdateRule


class WrapperRule(UpdateRule):
    """Rule that consists of other rules.

    It uses what any of them uses, and its meta-parameters are a dict of
    theirs. Subclasses implement `inner_rules` and `with_inner_rules`, in
    addition to `init_state`, `step` and `get_config`.
    """

    def inner_rules(self) -> dict[str, UpdateRule]:
        """Returns the inner rules, a dict from names to rules."""
        raise NotImplementedError

    def given_rules(self) -> dict[str, typing.Any]:
        """Returns `inner_rules`, where some may still be names or presets."""
        return self.inner_rules()

    def with_inner_rules(self, rules: dict[str, UpdateRule]) -> typing.Self:
        """Returns a copy of this rule that consists of other rules.

        Args:
            rules: Dict as from `inner_rules`.
        """
        raise NotImplementedError

    def _any(self, name):
        return any(getattr(r, name) for r in self.inner_rules().values())

    def _all(self, name):
        return all(getattr(r, name) for r in self.inner_rules().values())

    @property
    def uses_params(self):
        return self._any("uses_params")

    @property
    def uses_loss(self):
        return self._any("uses_loss")

    @property
    def needs_loss(self):
        return self._any("needs_loss")

    @property
    def jit_compile(self):
        return self._all("jit_compile")

    @property
    def rests_without_gradient(self):
        return self._all("rests_without_gradient")

    @property
    def rounds_state(self):
        return self._all("rounds_state")

    def for_variables(self, variables):
        return self.with_inner_rules(
            {
                name: rule.for_variables(variables)
                for name, rule in self.inner_rules().items()
            }
        )

    def for_num_steps(self, num_steps, steps_per_epoch=None):
        return self.with_inner_rules(
            {
                name: rule.for_num_steps(num_steps, steps_per_epoch)
                for name, rule in self.inner_rules().items()
            }
        )

    def init_meta_params(self, seed):
        return {
            name: rule.init_meta_params(seed)
            for name, rule in self.inner_rules().items()
        }
