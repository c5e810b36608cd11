"""The blocklist."""

import pytest

from transforms.errors import InputError
from transforms.language.blocked_clusters import resolve_blocked

NAMES = ["tea, green", "salt", "bread, rye"]


def test_clusters_are_blocked_by_id_and_by_description() -> None:
    assert resolve_blocked(["Bread, Rye", "0"], NAMES) == [0, 2]


@pytest.mark.parametrize("name", ["3", "-1", "bread"])
def test_unknown_blocked_cluster_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is neither"):
        resolve_blocked([name], NAMES)


def test_not_everything_may_be_blocked() -> None:
    with pytest.raises(InputError, match="blocks every cluster"):
        resolve_blocked(["0", "1", "2"], NAMES)
