"""A SavedModel with an untrained retriever and a random novelty table."""

from pathlib import Path

import numpy as np

from models.interests.novelty_table import NoveltyTable
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.retriever import RetrieverModel
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.serving.serving_module import ServingModule, export_saved_model

_CLUSTERS_PER_PAIR, _CANDIDATES = 20, 100


def untrained_retriever(catalogue: Catalogue, config: RetrieverConfig) -> RetrieverModel:
    """Return a retriever with random weights for items of random popularity."""
    counts = np.random.default_rng(0).integers(0, 1000, len(catalogue.item_ids))
    return RetrieverModel(config, catalogue, ItemStatistics.timeless(counts))


def random_novelty_table(clusters: int) -> NoveltyTable:
    """Return a table that lists distinct clusters for every pair."""
    rng = np.random.default_rng(0)
    first = rng.integers(clusters, size=(clusters, clusters, 1))
    novel = (first + np.arange(min(_CLUSTERS_PER_PAIR, clusters - 2))) % clusters
    probability = -np.sort(-rng.random(novel.shape, np.float32), axis=2)
    descriptions = [f"cluster {cluster}" for cluster in range(clusters)]
    return NoveltyTable(novel.astype(np.int32), probability, descriptions)


def serving_module(
    model: RetrieverModel, catalogue: Catalogue, table: NoveltyTable, k: int
) -> ServingModule:
    """Return a module whose aligned score counts all parts."""
    module = ServingModule(model, catalogue, table, k, _CANDIDATES)
    module.alignment.assign([1.0, 1.0, 1.0])
    return module


def write_saved_model(
    path: Path, catalogue: Catalogue, clusters: int, config: RetrieverConfig, k: int
) -> None:
    """Export an untrained model that answers with k items."""
    model = untrained_retriever(catalogue, config)
    export_saved_model(serving_module(model, catalogue, random_novelty_table(clusters), k), path)
