import numpy as np
import pytest
import tensorflow as tf

from keras_l2l import rules
from keras_l2l import tasks
from train import registry


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def task(data_dir):
    return tasks.ConvNetClassification(
        "l2l_patches", filters=4, kernel_size=3, batch_size=8, data_dir=data_dir
    )


def test_shapes_of_the_network(task):
    shapes = {
        v.path.partition("/")[2]: tuple(v.shape) for v in task.variables()
    }
    assert shapes == {
        "conv_0/kernel": (3, 3, 3, 4),
        "conv_0_norm/gamma": (4,),
        "conv_0_norm/beta": (4,),
        "conv_1/kernel": (3, 3, 4, 4),
        "conv_1_norm/gamma": (4,),
        "conv_1_norm/beta": (4,),
        "conv_2/kernel": (3, 3, 4, 4),
        "conv_2_norm/gamma": (4,),
        "conv_2_norm/beta": (4,),
        "dense_0/kernel": (64, 32),
        "dense_0_norm/gamma": (32,),
        "dense_0_norm/beta": (32,),
        "dense_1/kernel": (32, 10),
        "dense_1/bias": (10,),
    }


def test_kernels_are_gaussian_and_new_for_each_seed(task):
    first, second = (task.init_params(seed) for seed in (1, 2))
    kernels = [np.ravel(p) for p in (*first, *second) if len(p.shape) > 1]
    values = np.concatenate(kernels)
    assert abs(values.std() - 0.1) < 0.005
    assert len(np.unique(values)) > 0.99 * len(values)


def test_loss_of_zero_logits_is_log_of_the_classes(task, data_dir):
    two = tasks.ConvNetClassification(
        "l2l_patches", labels=[3, 8], batch_size=8, data_dir=data_dir
    )
    assert two.name == "l2l_patches_conv_labels_3_8"
    for each, classes in ((task, 10), (two, 2)):
        params = each.init_params(0)
        params = [*params[:-2], *(tf.zeros_like(p) for p in params[-2:])]
        batch = each.batches("train", 0)(tf.constant(0))
        assert float(each.loss(params, batch)) == pytest.approx(np.log(classes))
        assert {*batch[1].numpy()} <= {*range(classes)}


def test_each_lstm_of_the_paper_has_its_variables(task):
    variables = task.variables()
    rule = registry.RULES["lstm_conv"]().for_variables(variables)
    assert isinstance(rule, rules.Partition)
    names = {
        member: [variables[i].path.split("/")[1] for i in indices]
        for member, _, indices in rule.bound_members()
    }
    # Normalizations have the names of theirs in Keras, and so the default.
    assert names["member_0"] == ["conv_0", "conv_1", "conv_2"]
    assert len(names["default"]) == 11


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"filters": 0}, "`filters` must be an int"),
        ({"kernel_size": 2.5}, "`kernel_size` must be an int"),
        ({"batch_size": 0}, "`batch_size` must be an int"),
        ({"dataset": "nope"}, "nope"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.ConvNetClassification(**arguments)
