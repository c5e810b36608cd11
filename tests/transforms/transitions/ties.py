"""The order of a user's engagements at the same time, one row at a time."""

from functools import cache

import pyarrow as pa

from models.common.hashing import mix
from transforms.tables.sharding import stable_hash


@cache
def tie_key(user: str, item_id: str, seed: int = 0) -> int:
    """Return the hash that decides between the items of a user at the same time."""
    of_user, of_item = (stable_hash(pa.array([text]), seed) for text in (user, item_id))
    return int(mix(of_user ^ mix(of_item, seed), seed)[0])
