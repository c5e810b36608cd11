"""Numbers of pairs."""

import numpy as np

from models.interests.pairs import pair_index, unpair


def test_numbers_are_those_of_all_pairs_in_order() -> None:
    c1, c2 = (one.ravel().astype(np.int32) for one in np.indices((5, 5)))
    assert pair_index(c1, c2, 5).tolist() == list(range(25))
    assert [part.tolist() for part in unpair(np.arange(25), 5)] == [c1.tolist(), c2.tolist()]


def test_numbers_beyond_32_bits_do_not_overflow() -> None:
    last = np.array([99_999], np.int32)
    assert pair_index(last, last, 100_000).tolist() == [10**10 - 1]
