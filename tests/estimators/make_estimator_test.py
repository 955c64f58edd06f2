import pytest

from keras_l2l import estimators
from keras_l2l import rules
from keras_l2l import tasks

LENGTHS = {"horizon": 4, "unroll_length": 2}


@pytest.mark.parametrize("estimator", estimators.ESTIMATORS)
def test_unknown_arguments_are_told_with_the_known_ones(estimator):
    with pytest.raises(TypeError, match="horizon, .*stddev. Received: .'foo'"):
        estimators.make_estimator(
            rules.SGD(), tasks.Quadratics(3), estimator, **LENGTHS, foo=1
        )


@pytest.mark.parametrize("estimator", ["foo", ["es"], None])
def test_unknown_estimators(estimator):
    with pytest.raises(ValueError, match="one of backprop, es, persistent_es"):
        estimators.make_estimator(
            rules.SGD(), tasks.Quadratics(3), estimator, **LENGTHS
        )
