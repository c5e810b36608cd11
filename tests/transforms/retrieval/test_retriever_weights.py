"""Which weights a refresh may use."""

from dataclasses import replace

import pytest

from transforms.retrieval.retriever_weights import keeps_apart
from transforms.transitions.splits import SplitSpec

USERS = SplitSpec(0.1, 0.2, 0, None)
TIME = replace(USERS, cut=1_000)


@pytest.mark.parametrize(
    ("then", "now", "usable"),
    [
        (USERS, USERS, True),
        (USERS, replace(USERS, seed=1), False),  # other test users
        (USERS, replace(USERS, test_share=0.3), False),
        (TIME, replace(TIME, cut=2_000), True),
        (TIME, replace(TIME, cut=999), False),
        (USERS, TIME, False),  # learned from after the cut
        (TIME, USERS, False),  # learned from the test users
    ],
)
def test_no_weights_are_used_that_learned_from_what_is_tested_on(
    then: SplitSpec, now: SplitSpec, usable: bool
) -> None:
    assert keeps_apart(then, now) is usable
