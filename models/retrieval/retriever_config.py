"""Settings of the retriever, apart from it: flags have their defaults without TensorFlow."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RetrieverConfig:
    """Size and training of the retriever.

    Attributes
    ----------
    dimension, layers, heads
        Width, depth and attention heads of the transformer; heads divide the dimension.
    max_length
        Items of a history that the transformer sees: the latest ones.
    dropout
        Share of activations dropped in training, in [0, 1).
    item_dropout
        Share of items whose own embedding is left out of a training step, in [0, 1), so that
        cluster and features learn to stand in for it.
    learning_rate
        Of Adam.
    batch_size
        Rows of `max_length` positions in a training step.
    negatives
        Most items that a training step scores for each position: all, where there are no more,
        else so many drawn uniformly, beside the targets of the other users in the step.
    epochs, patience
        Most passes over the data, and passes without a better NDCG@10 before stopping early.
    validation_users
        Most users whose last item is held out.
    seed
        Of everything random.
    """

    dimension: int = 64
    layers: int = 2
    heads: int = 2
    max_length: int = 64
    dropout: float = 0.3
    item_dropout: float = 0.1
    learning_rate: float = 1e-3
    batch_size: int = 16
    negatives: int = 16384
    epochs: int = 30
    patience: int = 5
    validation_users: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = ("dimension", "layers", "heads", "max_length", "batch_size", "negatives")
        for name in (*at_least_one, "epochs", "patience", "validation_users"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.dimension % self.heads:
            raise ValueError(
                f"heads is {self.heads}, which does not divide dimension {self.dimension}: "
                "choose a dimension that is a multiple of heads"
            )
        for name in ("dropout", "item_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be in [0, 1)")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate is {self.learning_rate}: it must be positive and finite"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: it must not be negative")
