"""The items as the retriever sees them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Catalogue:
    """Every item with metadata, whether anyone engaged with it or not.

    Attributes
    ----------
    item_ids
        [items] str, distinct and not empty.
    clusters
        [items] int32, the cluster of each item at the level in use.
    eligible
        [items] bool, whether the item may be recommended.
    """

    item_ids: NDArray[np.str_]
    clusters: NDArray[np.int32]
    eligible: NDArray[np.bool_]

    def __post_init__(self) -> None:
        items = len(self.item_ids)
        if not items:
            raise ValueError("the catalogue has no items: check the items input")
        if len(self.clusters) != items or len(self.eligible) != items:
            raise ValueError(
                f"{items} item ids, {len(self.clusters)} clusters, {len(self.eligible)} eligible "
                "flags: the three must be of one length"
            )
        if np.min(self.clusters) < 0:
            raise ValueError(f"cluster {np.min(self.clusters)} of an item: ids start at 0")
        if len(set(self.item_ids)) != items or "" in set(self.item_ids):
            raise ValueError("item ids must be distinct and not empty: deduplicate the items")
