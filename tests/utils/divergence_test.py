import math

import numpy as np
import pytest

from keras_l2l.utils.divergence import inf_if_diverged

NOT_FINITE = [math.nan, math.inf, -math.inf, None]


@pytest.mark.parametrize("loss", NOT_FINITE)
def test_what_is_not_finite_is_inf(loss):
    assert inf_if_diverged(loss) == math.inf
    found = inf_if_diverged([[1.0, loss], [2.0, 3e38]])
    np.testing.assert_array_equal(found, [[1.0, math.inf], [2.0, 3e38]])
    # Means neither warn nor overflow.
    assert np.mean(inf_if_diverged(np.float32([3e38, 3e38]))) < 4e38
    assert np.mean(inf_if_diverged([math.inf, loss])) == math.inf
