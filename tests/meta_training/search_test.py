import numpy as np
import one_run
import pytest
import tensorflow as tf
from conftest import leaves

from keras_l2l import estimators
from keras_l2l import meta_training
from keras_l2l import presets
from keras_l2l import rules
from keras_l2l import tasks
from keras_l2l.meta_training import search
from keras_l2l.meta_training.watch import MetaTrainingError
from keras_l2l.utils import files

SHORT = {
    "horizon": 4,
    "estimator": estimators.TruncatedBackprop(unroll_length=2),
    "meta_steps": 4,
    "validation": meta_training.Validation(interval=2, episodes=2),
    "verbose": 0,
}


def run_search(output_dir, trials=3):
    return search.meta_search(
        rules.Momentum(),
        tasks.Quadratics(3),
        output_dir,
        trials,
        **SHORT,
    )


def test_the_best_of_the_trials_is_kept(tmp_path):
    found = run_search(tmp_path)["trials"]
    losses = [trial["final_loss"] for trial in found]
    assert losses == sorted(losses)
    rates = [trial["meta_learning_rate"] for trial in found]
    assert len(set(rates)) == 3 and all(1e-4 <= r <= 1e-1 for r in rates)
    for trial in found:
        folder = tmp_path / trial["folder"]
        config = files.read_json(folder / "config.json")
        assert (
            config["meta_optimizer"]["learning_rate"]
            == (trial["meta_learning_rate"])
        )
        history = files.read_json(folder / "history.json")
        finals = [entry["final_loss"] for entry in history["validation"]]
        assert trial["final_loss"] == min(finals)
    best = presets.load_preset(
        tmp_path / found[0]["folder"] / "preset"
    ).meta_params
    kept = presets.load_preset(tmp_path / "preset").meta_params
    for a, b in zip(leaves(kept), leaves(best), strict=True):
        np.testing.assert_array_equal(a, b)
    assert files.read_json(tmp_path / "search.json") == {"trials": found}
    # Again, or stopped and gone on, it is the same.
    assert run_search(tmp_path)["trials"] == found


def test_a_trial_that_diverges_is_the_last(tmp_path, monkeypatch):
    meta_train, calls = search.meta_train, []

    def diverging(*arguments, **others):
        calls.append(others["meta_optimizer"].learning_rate)
        if len(calls) != 2:
            raise MetaTrainingError("diverged")
        return meta_train(*arguments, **others)

    monkeypatch.setattr(search, "meta_train", diverging)
    found = run_search(tmp_path)["trials"]
    assert found[0]["meta_learning_rate"] == calls[1]
    assert np.isinf([trial["final_loss"] for trial in found[1:]]).all()
    assert (
        files.read_json(tmp_path / "search.json")["trials"][1]["final_loss"]
        is None
    )
    with pytest.raises(MetaTrainingError, match="must not diverge"):
        run_search(tmp_path / "other", trials=1)


class Overflowing(tasks.Quadratics):
    """Its loss is inf wherever it is looked at in validation."""

    def __init__(self, value):
        super().__init__(3)
        self._value = value

    def batches(self, split, seed):
        return lambda step: tf.constant(
            self._value if split == "meta_valid" else 0.0
        )

    def sample(self, seed):
        task = super().sample(seed)
        loss, task.batches = task.loss, self.batches
        task.loss = lambda params, batch: loss(params, ()) + batch
        return task


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_search_that_diverges_ships_no_preset(tmp_path, value):
    with pytest.raises(MetaTrainingError, match="must not diverge"):
        search.meta_search(
            one_run.UncompiledLSTM(),
            Overflowing(value),
            tmp_path,
            trials=1,
            **SHORT,
        )
    assert not list(tmp_path.rglob("preset"))
    assert (tmp_path / "trial_0" / "history.json").exists()
