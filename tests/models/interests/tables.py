"""Novelty tables whose descriptions do not matter."""

import numpy as np

from models.interests.novelty_table import NoveltyTable


def novelty_table(
    novel: np.ndarray, probability: np.ndarray, blocked: tuple[int, ...] = ()
) -> NoveltyTable:
    descriptions = [f"description {cluster}" for cluster in range(len(novel))]
    return NoveltyTable(novel, probability, descriptions, blocked)
