import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.language.training.validation import recall


@given(data=st.data(), rows=st.integers(1, 5), clusters=st.integers(1, 6), k=st.integers(1, 6))
def test_recall_is_the_share_of_labels_among_the_first_k(data, rows, clusters, k):
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, clusters))
    labels = rng.integers(0, clusters, rows)
    best = [sorted(range(clusters), key=lambda c, row=row: -row[c])[:k] for row in scores]
    expected = np.mean([label in first for label, first in zip(labels, best, strict=True)])
    assert recall(scores, labels, k) == pytest.approx(expected)


def test_an_excluded_label_is_never_recalled():
    assert recall(np.array([[0.0, -np.inf]]), np.array([1]), 10) == 0
