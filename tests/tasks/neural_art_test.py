import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from keras_l2l import tasks
from keras_l2l.tasks import neural_art

# Neural art is an experiment of its own. What it has in common with other
# tasks, tests of all tasks see.
pytestmark = pytest.mark.slow
STYLE = skimage.data.immunohistochemistry()


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")

    def make(style=STYLE, dataset="l2l_patches/32", **arguments):
        return tasks.NeuralArt(style, dataset, data_dir=data_dir, **arguments)

    return make


@pytest.fixture(scope="module")
def task(make):
    return make()


@pytest.fixture(scope="module")
def only(make):
    """Returns tasks with one part of the loss, of weight 1."""
    names = ("content_weight", "style_weight", "tv_weight")
    return {
        name: make(**{n: float(n == name) for n in names}) for name in names
    }


def as_params(pixels):
    return [tf.cast(pixels, tf.float32) / 127.5 - 1]


def test_the_content_itself_has_no_content_error(only):
    task = only["content_weight"]
    for seed in (0, 1, 2):
        batch = task.batches("test", seed)(tf.constant(0))
        index = task.content_index("test", seed)
        content = as_params(task.contents["test"][index])
        assert float(task.loss(content, batch)) < 1e-10
        assert float(task.loss(task.init_params(seed), batch)) > 0.1


def test_the_style_itself_has_no_style_error(only):
    task = only["style_weight"]
    batch = task.batches("train", 0)(tf.constant(0))
    assert float(task.loss([task.style_params], batch)) < 1e-10
    # Of each layer, the error in the channels' products.
    params = task.init_params(0)
    names = [f"block{i}_conv1" for i in range(1, 6)]
    features = keras.Model(
        task._vgg.input, [task._vgg.get_layer(n).output for n in names]
    )

    def grams(pixels):
        bgr = np.asarray(pixels)[None, :, :, ::-1]
        found = features(bgr - np.array([103.939, 116.779, 123.68]))
        return [
            np.einsum("hwi,hwj->ij", f, f) / (f.shape[0] * f.shape[1])
            for f in np.array([np.asarray(f[0]) for f in found], dtype=object)
        ]

    errors = [
        np.sum((a - b) ** 2) / np.sum(b**2)
        for a, b in zip(
            grams(127.5 * (1 + params[0])),
            grams(127.5 * (1 + task.style_params)),
            strict=True,
        )
    ]
    expected = pytest.approx(np.mean(errors), rel=1e-4)
    assert float(task.loss(params, batch)) == expected


def test_derivatives_of_fixed_convolutions():
    seeds = iter(range(9))

    def normal(*shape):
        return tf.random.stateless_normal(shape, [0, next(seeds)])

    layer = keras.layers.Conv2D(5, 3, padding="same", activation="relu")
    inputs, direction = normal(1, 6, 7, 3), normal(1, 6, 7, 3)
    layer.build(inputs.shape)
    layer.bias.assign(normal(5))

    def derivatives(layer):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                outputs = layer(inputs)
                loss = tf.reduce_sum(outputs**3)
            gradient = inner.gradient(loss, inputs)
            product = tf.reduce_sum(gradient * direction)
        return outputs, gradient, outer.gradient(product, inputs)

    expected = derivatives(layer)
    for a, b in zip(
        derivatives(neural_art._FixedConv2D(layer)), expected, strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_total_variation(only):
    task = only["tv_weight"]
    params = task.init_params(3)
    x = params[0].numpy()
    expected = np.mean(np.diff(x, axis=0) ** 2) + np.mean(
        np.diff(x, axis=1) ** 2
    )
    batch = task.batches("train", 0)(tf.constant(0))
    assert float(task.loss(params, batch)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_weighted_sum(only, task):
    params = task.init_params(1)
    batch = task.batches("train", 7)(tf.constant(0))
    parts = [float(part.loss(params, batch)) for part in only.values()]
    expected = pytest.approx(np.dot([100, 100, 10], parts), rel=1e-5)
    assert float(task.loss(params, batch)) == expected


def test_an_episode_has_one_content_and_seeds_have_all(task):
    for split, number in (("train", 100), ("meta_valid", 20), ("test", 20)):
        seeds = [tasks.base.split_seed(split, i) for i in range(number)]
        chosen = {int(task.content_index(split, seed)) for seed in seeds}
        assert chosen == {*range(number)}
    batches = task.batches("train", 5)
    np.testing.assert_array_equal(batches(0), batches(99))


def test_pictures_start_gaussian(task):
    (params,) = task.init_params(0)
    assert params.shape == (32, 32, 3)
    assert abs(np.std(params) - 0.3) < 0.01
    assert np.any(params != task.init_params(1)[0])


def test_pixels():
    params = tf.constant([-5.0, -1.0, 0.0, 1 / 127.5, 1.0, 5.0])
    pixels = neural_art.to_pixels(params)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [0, 0, 128, 128, 255, 255]


def test_weights_from_a_file(make, task, tmp_path):
    path = tmp_path / "vgg.weights.h5"
    vgg = keras.applications.VGG19(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    vgg.save_weights(path)
    other = make(vgg_weights=str(path))
    for layer in other._vgg.layers:
        if "conv" in layer.name:
            kernel = vgg.get_layer(layer.name).kernel
            np.testing.assert_array_equal(layer.kernel, kernel)
    assert other.get_config()["vgg_sha256"] != task.get_config()["vgg_sha256"]
    # Random ones are always the same.
    assert make().get_config() == task.get_config()


def test_weights_that_keras_downloads(make, task, monkeypatch):
    vgg19 = keras.applications.VGG19

    def downloaded(weights, **kwargs):
        assert weights == "imagenet"
        return vgg19(weights=None, **kwargs)

    monkeypatch.setattr(keras.applications, "VGG19", downloaded)
    config = make(vgg_weights="imagenet").get_config()
    # As they came, not those that are always the same.
    assert config["vgg_sha256"] != task.get_config()["vgg_sha256"]

    def offline(**kwargs):
        raise Exception("URL fetch failure on https://there")

    monkeypatch.setattr(keras.applications, "VGG19", offline)
    with pytest.raises(ValueError, match="path of a file.*URL fetch failure"):
        make(vgg_weights="imagenet")


def test_configurations_tell_styles_apart(make, task):
    other = make(style=STYLE[::-1]).get_config()
    assert other["style_sha256"] != task.get_config()["style_sha256"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"style": STYLE[..., 0]}, r"`style` must be an array \[height"),
        ({"style": STYLE - 1.0 * STYLE - 1}, "`style` must be"),
        ({"style": STYLE / 255}, "multiply by 255"),
        (
            {"content_weight": 0, "style_weight": 0, "tv_weight": 0},
            "One of the weights must be positive",
        ),
        ({"style_weight": -1.0}, "`style_weight` must be"),
        ({"init_stddev": 0}, "`init_stddev` must be"),
        ({"vgg_weights": "nope.weights.h5"}, "`vgg_weights` must be.*nope"),
        ({"dataset": "l2l_digits"}, "must be in colour"),
    ],
)
def test_bad_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
