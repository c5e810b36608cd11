"""The clusters that are never an answer."""

from collections.abc import Sequence

from transforms.errors import InputError


def resolve_blocked(names: Sequence[str], descriptions: Sequence[str]) -> list[int]:
    """Return the ids of clusters that are given by id or by description.

    Raises InputError if there is no such cluster, or all clusters are blocked.
    """
    by_description = {text.casefold(): cluster for cluster, text in enumerate(descriptions)}
    blocked = set()
    for name in names:
        if name.isdecimal() and int(name) < len(descriptions):
            blocked.add(int(name))
        elif name.casefold() in by_description:
            blocked.add(by_description[name.casefold()])
        else:
            raise InputError(
                f"--blocked_clusters: {name!r} is neither the id (0 to {len(descriptions) - 1}) "
                "nor the description of a cluster of this level; see clusters/clusters.parquet"
            )
    if len(descriptions) - len(blocked) < 1:
        raise InputError("--blocked_clusters blocks every cluster; leave some to recommend")
    return sorted(blocked)
