"""The weights of the aligned score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from models.interests.alignment import ABLATIONS, PARTS, Cases, fit_weights

M = 6


def drawn(weights: list[float], count: int, seed: int = 0) -> Cases:
    """Return cases whose novel cluster follows the softmax of the weighted parts."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=[count, M, len(PARTS)]).astype(np.float32)
    able = rng.random([count, M]) < 0.8
    able[np.arange(count), rng.integers(M, size=count)] = True
    odds = softmax(np.where(able, parts @ np.array(weights), -np.inf), axis=1)
    novel = np.array([rng.choice(M, p=row) for row in odds], np.int32)
    return Cases(parts, able, novel)


def likelihood(cases: Cases, weights: np.ndarray) -> float:
    scores = np.where(cases.able, cases.parts @ weights, -np.inf)
    return float(np.log(softmax(scores, axis=1)[np.arange(len(scores)), cases.novel]).sum())


def test_weights_that_made_the_cases_are_found() -> None:
    found = fit_weights(drawn([0.5, 1.5, 0.0], 20_000))
    np.testing.assert_allclose(found, [0.5, 1.5, 0.0], atol=0.06)


@pytest.mark.parametrize("used", ABLATIONS.values())
def test_parts_that_are_not_used_weigh_nothing(used: tuple[str, ...]) -> None:
    found = fit_weights(drawn([0.5, 1.0, 0.5], 500), used)
    assert [w > 0 for w in found] == [part in used for part in PARTS]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(0, 9))
def test_few_cases_stay_near_the_best_single_part(count: int, seed: int) -> None:
    found = fit_weights(drawn([0.0, 1.0, 0.0], count, seed))
    assert (found >= 0).all()
    assert np.isfinite(found).all()


def test_a_blend_is_never_less_likely_than_its_best_part() -> None:
    cases = drawn([0.3, 0.8, 0.3], 2_000)
    best = max(likelihood(cases, fit_weights(cases, (part,))) for part in PARTS)
    assert likelihood(cases, fit_weights(cases)) > best


def test_without_cases_the_user_decides() -> None:
    assert fit_weights(drawn([1, 1, 1], 0)).tolist() == [0, 1, 0]


def test_cases_that_cannot_be_answered_do_not_count() -> None:
    cases = drawn([1.0, 1.0, 0.0], 300)
    more = drawn([0.0, 0.0, 1.0], 300, seed=1)
    more.able[np.arange(300), more.novel] = False
    both = Cases(
        *(np.concatenate([getattr(one, name) for one in (cases, more)]) for name in vars(cases))
    )
    np.testing.assert_allclose(fit_weights(both), fit_weights(cases), atol=1e-3)
