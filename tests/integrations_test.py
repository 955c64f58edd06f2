"""In packages around Keras that make, clone and save optimizers."""

import importlib.util
import pathlib
import pickle

import keras
import numpy as np
import pytest
from conftest import assert_same

import keras_l2l

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")


def classifier(optimizer="keras_l2l>LearnedOptimizer"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def of_compile_arguments(compile_kwargs):
    """Returns a model as scikeras wants it to be made."""
    return classifier(compile_kwargs["optimizer"])


# KerasTuner's own, of the names of threads.
@pytest.mark.filterwarnings("ignore:.*is deprecated.*:DeprecationWarning")
@pytest.mark.slow
def test_keras_tuner_searches_presets(tmp_path):
    tuner_lib = pytest.importorskip("keras_tuner")

    def build(hp):
        preset = hp.Choice(
            "preset", ["l2l_fashion_mnist_mlp", "l2l_digits_mlp"]
        )
        rate = hp.Choice("learning_rate", [0.3, 1.0])
        return classifier(
            keras_l2l.LearnedOptimizer.from_preset(preset, learning_rate=rate)
        )

    def tuner(overwrite):
        return tuner_lib.GridSearch(
            build,
            "val_loss",
            max_trials=2,
            directory=tmp_path,
            overwrite=overwrite,
        )

    first = tuner(True)
    first.search(
        X, Y, validation_data=(X, Y), epochs=3, batch_size=48, verbose=0
    )
    again = tuner(False)
    trials = again.oracle.get_best_trials(2)
    assert [t.score for t in trials] == [
        t.score for t in first.oracle.get_best_trials(2)
    ]
    assert len({t.score for t in trials}) == 2
    (reloaded,) = again.get_best_models()
    loss = reloaded.evaluate(X, Y, verbose=0)
    assert loss == pytest.approx(trials[0].score, rel=1e-5)
    chosen = again.get_best_hyperparameters()[0].get("preset")
    optimizer = reloaded.optimizer
    assert optimizer.preset == chosen
    # The state came along.
    optimizer.build(reloaded.trainable_variables)
    assert optimizer.iterations in (2, 4, 6)
    assert all(np.any(v) for v in optimizer._state)


@pytest.mark.slow
def test_grid_search_of_scikeras_clones_and_pickles():
    wrappers = pytest.importorskip("scikeras.wrappers")
    model_selection = pytest.importorskip("sklearn.model_selection")

    estimator = wrappers.KerasClassifier(
        of_compile_arguments,
        optimizer=keras_l2l.LearnedOptimizer,
        optimizer__rule="l2l_fashion_mnist_mlp",
        optimizer__learning_rate=1.0,
        loss="sparse_categorical_crossentropy",
        epochs=2,
        verbose=0,
        shuffle=False,
        random_state=0,
    )
    search = model_selection.GridSearchCV(
        estimator,
        {"optimizer__learning_rate": [1e-6, 1.0], "epochs": [20]},
        cv=[(np.arange(64), np.arange(64, 96))],
        error_score="raise",
    )
    with pytest.warns(UserWarning, match="about 1.0"):
        search.fit(X, Y)
    assert search.best_params_["optimizer__learning_rate"] == 1.0
    best = search.best_estimator_
    copy = pickle.loads(pickle.dumps(best))
    np.testing.assert_array_equal(copy.predict_proba(X), best.predict_proba(X))
    for one in (best, copy):
        one.partial_fit(X, Y)
    np.testing.assert_allclose(
        copy.predict_proba(X), best.predict_proba(X), rtol=1e-5
    )


def test_an_optimizer_with_state_is_cloned_without_it():
    base = pytest.importorskip("sklearn.base")
    wrappers = pytest.importorskip("scikeras.wrappers")
    optimizer = keras_l2l.LearnedOptimizer(rule="l2l_fashion_mnist_mlp")
    model = classifier(optimizer)
    model.fit(X, Y, epochs=2, verbose=0)
    assert optimizer.iterations == 6
    estimator = wrappers.KerasClassifier(
        model, optimizer=optimizer, epochs=2, verbose=0
    )
    cloned = base.clone(estimator)
    cloned.fit(X, Y)
    assert cloned.model_.optimizer is not optimizer
    assert cloned.model_.optimizer.preset == "l2l_fashion_mnist_mlp"
    # The optimizer of the user has not moved.
    assert optimizer.iterations == 6


def test_two_towers_of_keras_rs():
    layers = pytest.importorskip("keras_rs.layers")

    class TwoTowers(keras.Model):
        def __init__(self):
            super().__init__()
            self.user = keras.layers.Embedding(20, 8)
            self.item = keras.layers.Embedding(30, 8)

        def call(self, pairs):
            user, item = self.user(pairs[:, 0]), self.item(pairs[:, 1])
            return keras.ops.matmul(user, keras.ops.transpose(item))

    keras.utils.set_random_seed(0)
    model = TwoTowers()
    optimizer = keras_l2l.LearnedOptimizer(rule="l2l_fashion_mnist_mlp")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    pairs = np.stack([np.arange(16), np.arange(16) + 5], axis=1)
    model(pairs)
    users, items = model.user.embeddings, model.item.embeddings
    before = items.numpy()[:5], users.numpy()[16:]
    losses = model.fit(
        pairs, np.eye(16), batch_size=16, epochs=60, shuffle=False, verbose=0
    ).history["loss"]
    assert losses[-1] < losses[0] / 2
    retrieval = layers.BruteForceRetrieval(
        items.numpy(), k=1, return_scores=False
    )
    best = np.asarray(retrieval(model.user(pairs[:, 0])))[:, 0]
    assert np.mean(best == pairs[:, 1]) > 0.8
    # Rows that no example has stay as they are.
    np.testing.assert_array_equal(items.numpy()[:5], before[0])
    np.testing.assert_array_equal(users.numpy()[16:], before[1])


def lora_task(name, quantized):
    """Returns a small KerasHub task with LoRA, and the data of a fit."""
    models = pytest.importorskip("keras_hub.models")
    sizes = {
        "vocabulary_size": 50,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 32,
        "max_sequence_length": 8,
    }
    keras.utils.set_random_seed(0)
    tokens = RNG.integers(1, 50, size=(32, 8))
    inputs = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    if name == "bert":
        backbone = models.BertBackbone(dropout=0.0, **sizes)
        task = models.BertTextClassifier(backbone, num_classes=2)
        inputs["segment_ids"] = np.zeros_like(tokens)
        targets = tokens[:, 0] % 2
    else:
        backbone = models.GPT2Backbone(dropout=0.0, **sizes)
        task = models.GPT2CausalLM(backbone)
        targets = np.full_like(tokens, 7)
    # As large as in a trained model: small ones give LoRA nothing to move.
    table = backbone.token_embedding.embeddings
    table.assign(20 * table)
    if quantized:
        backbone.quantize("int8")
    backbone.enable_lora(2)
    return task, inputs, targets


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
# Of all layers without weights of their own.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quan:UserWarning")
@pytest.mark.parametrize(
    ("name", "quantized"),
    [pytest.param("bert", True, marks=pytest.mark.slow), ("gpt2", False)],
)
def test_lora_of_keras_hub(name, quantized):
    task, inputs, targets = lora_task(name, quantized)
    task.compile(
        # The rate to begin fine-tuning with.
        keras_l2l.LearnedOptimizer(0.1, rule="l2l_fashion_mnist_mlp"),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    frozen = [v for v in task.non_trainable_variables if "seed" not in v.path]
    lora = [v for v in task.trainable_variables if "lora" in v.path]
    assert lora
    frozen_before, lora_before = map(values, (frozen, lora))
    losses = task.fit(
        inputs, targets, batch_size=32, epochs=30, verbose=0
    ).history["loss"]
    assert losses[-1] < losses[0] - 0.02
    assert_same(values(frozen), frozen_before)
    for before, after in zip(lora_before, values(lora), strict=True):
        assert abs(after - before).max() > 1e-4


def values(variables):
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def test_posterior_of_bayesflow():
    bayesflow = pytest.importorskip("bayesflow")
    parameters = RNG.normal(size=(256, 2)).astype("float32")
    noise = RNG.normal(size=(256, 2)).astype("float32")
    workflow = bayesflow.BasicWorkflow(
        inference_network=bayesflow.networks.CouplingFlow(
            depth=2, subnet_kwargs={"widths": (16,)}
        ),
        inference_variables=["parameters"],
        inference_conditions=["observables"],
        optimizer=keras_l2l.LearnedOptimizer(rule="l2l_fashion_mnist_mlp"),
    )
    losses = workflow.fit_offline(
        {"parameters": parameters, "observables": parameters + 0.1 * noise},
        epochs=10,
        batch_size=64,
        verbose=0,
    ).history["loss"]
    assert losses[-1] < losses[0] - 0.5
    assert isinstance(
        workflow.approximator.optimizer, keras_l2l.LearnedOptimizer
    )


def test_reinforcement_learning_in_a_custom_loop(monkeypatch, capsys):
    pytest.importorskip("gymnasium")
    path = pathlib.Path(__file__).parent.parent / "examples/cartpole.py"
    spec = importlib.util.spec_from_file_location("cartpole", path)
    cartpole = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cartpole)
    monkeypatch.setattr(cartpole, "UPDATES", 8)
    monkeypatch.setattr(cartpole, "SEEDS", 1)
    cartpole.main()
    *_, line = (
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("LearnedOptimizer at 1.0")
    )
    first, *_, last = map(int, line.split()[3::2])
    assert first < last
