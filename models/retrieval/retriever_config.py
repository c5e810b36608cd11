"""Settings of the retriever, in their own module: flags need no TensorFlow to have defaults."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RetrieverConfig:
    """Size and training of the retriever."""

    dimension: int = 64  # width of the transformer, a multiple of `heads`
    layers: int = 2
    heads: int = 2
    max_length: int = 64  # latest items of a history that the transformer sees
    dropout: float = 0.3  # share of activations, in [0, 1)
    # Share of items whose own embedding is left out of a training step, in [0, 1), so that cluster
    # and features learn to replace it.
    item_dropout: float = 0.1
    learning_rate: float = 1e-3  # of Adam
    batch_size: int = 16  # rows of `max_length` positions
    # Items that a training step scores for each position: all items if there are no more than this,
    # else this many, drawn half from the targets of the step and half uniformly.
    negatives: int = 512
    epochs: int = 30  # at most
    patience: int = 5  # epochs without a better NDCG@10 before training stops
    validation_users: int = 2000  # users whose last item is held out, at most
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
