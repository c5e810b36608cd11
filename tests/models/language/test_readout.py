"""A linear readout of hidden states."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from models.language.readout import fit_readout


def test_it_recovers_a_distribution_that_the_states_determine() -> None:
    rng = np.random.default_rng(0)
    states = (5 + rng.normal(size=(400, 8))).astype(np.float32)
    targets = softmax(states @ rng.normal(scale=0.3, size=(8, 4)), axis=1)
    rows = fit_readout(states, np.zeros((4, 8), np.float32), targets)
    assert softmax(states @ rows.T, axis=1) == pytest.approx(targets, abs=0.03)


def test_what_may_not_be_answered_is_left_out_of_the_softmax() -> None:
    """Of two classes one is never allowed: nothing is to be learned, the rows stay equal."""
    states = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    before = np.ones((2, 3), np.float32)
    rows = fit_readout(states, before, np.tile([1.0, 0.0], (20, 1)))
    assert rows == pytest.approx(before, abs=1e-6)


def test_equal_states_teach_the_mean() -> None:
    states = np.ones((10, 3), np.float32)
    targets = np.repeat([[0.9, 0.1], [0.5, 0.5]], 5, axis=0)
    rows = fit_readout(states, np.zeros((2, 3), np.float32), targets)
    assert softmax(states @ rows.T, axis=1) == pytest.approx(np.tile([0.7, 0.3], (10, 1)), abs=0.01)


def test_the_classes_together_are_as_likely_as_they_were() -> None:
    """Else free generation answers with other tokens than those of the clusters."""
    rng = np.random.default_rng(0)
    states = (5 + rng.normal(size=(400, 8))).astype(np.float32)
    before = rng.normal(size=(4, 8)).astype(np.float32)
    rows = fit_readout(states, before, softmax(rng.normal(size=(400, 4)), axis=1))
    was, found = (logsumexp(states @ one.T, axis=1) for one in (before, rows))
    assert found.mean() == pytest.approx(was.mean(), abs=1e-3)
