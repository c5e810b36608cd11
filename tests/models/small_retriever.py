"""A catalogue, users and settings so small that training takes seconds."""

from typing import Any

import numpy as np

from models.item_catalogue import Catalogue

ITEMS = 40
SMALL: dict[str, Any] = {
    "dimension": 16,
    "layers": 1,
    "max_length": 8,
    "batch_size": 8,
    "negatives": 32,
    "epochs": 3,
}


def ring(users: int = 60, length: int = 9, seed: int = 0) -> list[np.ndarray]:
    """Users who walk a ring of items one by one, so that the next item is certain."""
    starts = np.random.default_rng(seed).integers(ITEMS, size=users)
    return [((start + np.arange(length)) % ITEMS).astype(np.int32) for start in starts]


def catalogue(items: int = ITEMS) -> Catalogue:
    ids = np.array([f"item {index}" for index in range(items)])
    return Catalogue(ids, (np.arange(items) % 4).astype(np.int32), np.ones(items, bool))
