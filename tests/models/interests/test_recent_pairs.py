"""How often pairs are drawn, against draws."""

from collections import Counter

import numpy as np
import pytest

from models.interests.recent_pairs import RECENT, pair_ranks, pair_weights


@pytest.mark.parametrize("known", range(1, RECENT + 1))
def test_pair_weights_are_those_of_two_draws_without_replacement(known: int) -> None:
    rng = np.random.default_rng(known)
    shares = 2.0 ** -(np.arange(known) / 2)
    scores = rng.gumbel(size=(200_000, known)) + np.log(shares)  # the Gumbel-max trick
    pairs = [tuple(pair) for pair in np.sort(np.argsort(-scores, axis=1)[:, :2]).tolist()]
    seen = Counter((pair[-1], pair[0]) for pair in pairs)  # (older, newer)
    weights = pair_weights(RECENT)[known] / 2**30
    for ranks, weight in zip(map(tuple, pair_ranks(RECENT).tolist()), weights, strict=True):
        assert seen[ranks] / len(pairs) == pytest.approx(weight, abs=0.005)
