"""The catalogue of items, as the retriever reads it."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Catalogue:
    """All items with metadata, also items without engagements."""

    item_ids: NDArray[np.str_]  # [items], distinct and not empty
    clusters: NDArray[np.int32]  # [items], at the level in use
    eligible: NDArray[np.bool_]  # [items], whether the item may be recommended
    features: NDArray[np.float32] = field(  # [items, F], by default F is 0
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )

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
        if not self.features.size:
            object.__setattr__(self, "features", np.zeros((items, 0), np.float32))
        if self.features.ndim != 2 or len(self.features) != items:
            raise ValueError(
                f"features have shape {self.features.shape} for {items} items: it must be "
                f"[{items}, any number]"
            )

    @property
    def vocabulary(self) -> str:
        """Fingerprint of the items, their order and their clusters."""
        return vocabulary(self.item_ids, self.clusters)


def vocabulary(item_ids: pa.Array | NDArray[np.str_], clusters: NDArray[np.int32]) -> str:
    """Return the fingerprint of items, in their order, and the cluster of each.

    >>> one = vocabulary(np.array(["a", "bc"]), np.array([0, 1]))
    >>> one == vocabulary(np.array(["ab", "c"]), np.array([0, 1]))
    False
    """
    ids = pa.array(item_ids, pa.string())
    digest = hashlib.sha256(pc.binary_length(ids).to_numpy().astype(np.int32).tobytes())
    digest.update("".join(ids.to_pylist()).encode())
    digest.update(np.asarray(clusters, np.int32).tobytes())
    return digest.hexdigest()
