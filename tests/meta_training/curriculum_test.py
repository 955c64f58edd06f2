"""How long episodes are, by hand."""

import numpy as np
import pytest

from keras_l2l.meta_training import Curriculum
from keras_l2l.meta_training.curriculum import EpisodeLengths


def test_all_are_of_the_horizon():
    lengths = EpisodeLengths(Curriculum(), 100, 20, 1000)
    assert {lengths.unrolls(g, 7 * g) for g in range(50)} == {5}


def test_a_curriculum_grows_in_the_first_half():
    lengths = EpisodeLengths(Curriculum(first_horizon=100), 1600, 20, 1000)
    found = [lengths.unrolls(0, step) for step in (0, 125, 250, 500, 900)]
    assert found == [5, 10, 20, 80, 80]


def test_log_uniform():
    curriculum = Curriculum(log_uniform_horizons=True)
    lengths = EpisodeLengths(curriculum, 2000, 20, 10, seed=3)
    found = np.array([lengths.unrolls(g, 5) for g in range(3000)])
    assert found.min() == 1 and found.max() == 100
    # As many from 20 to 200 steps as from 200 to 2000.
    assert abs(np.mean(found <= 10) - 0.5) < 0.04
    again = EpisodeLengths(curriculum, 2000, 20, 10, seed=3)
    assert [again.unrolls(g, 5) for g in range(9)] == found[:9].tolist()
    other = EpisodeLengths(curriculum, 2000, 20, 10, seed=4)
    assert [other.unrolls(g, 5) for g in range(9)] != found[:9].tolist()


def test_both():
    curriculum = Curriculum(first_horizon=40, log_uniform_horizons=True)
    lengths = EpisodeLengths(curriculum, 2000, 20, 10)
    found = {lengths.unrolls(g, 0) for g in range(100)}
    assert found == {1, 2}


def test_the_share_of_episodes_whose_length_is_not_told():
    for share, expected in ((None, 0), (0.3, 0.3)):
        lengths = EpisodeLengths(
            Curriculum(untold_lengths=share), 100, 20, 10, seed=3
        )
        found = np.mean([not lengths.is_told(i) for i in range(3000)])
        assert abs(found - expected) < 0.03
    with pytest.raises(ValueError, match="`untold_lengths` must be a share"):
        Curriculum(untold_lengths=1.5)
