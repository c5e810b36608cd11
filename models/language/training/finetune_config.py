"""How a language model is fine-tuned."""

from dataclasses import dataclass

from models.language.language_model import DTYPES

METHODS = ("full", "lora")


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune.

    Attributes
    ----------
    method : {"full", "lora"}
        Train all weights, or low-rank adapters (arXiv 2106.09685) that are merged at the end.
    max_steps, batch_size : int
        Steps at most, 0 for none, and examples a step.
    learning_rate : float
        Of AdamW at its highest: it rises over ``warmup_steps``, then falls to 0 as a cosine.
    warmup_steps : int
    eval_every : int
        Steps between evaluations; each also writes a checkpoint.
    patience : int
        Evaluations in a row without a better validation loss before training stops.
    eval_examples : int
        Validation examples for the validation loss.
    eval_prompts : int
        Those of them for match rate and recall.
    dtype : {"bfloat16", "float32"}
        Of the weights in training. The arithmetic is in bfloat16 either way, where the machine
        has it (see `has_bfloat16`).
    lora_rank, lora_alpha : int
        Rank of the adapters, and their scale times the rank.
    affinity_pairs : int
        Pairs of interests for each cluster whose whole distribution, as counts expect it, the
        output head is fitted to at the end; 0 leaves the head to the examples.
    seed : int
    """

    method: str = "full"
    max_steps: int = 60
    batch_size: int = 16
    learning_rate: float = 3e-4
    warmup_steps: int = 6
    eval_every: int = 20
    patience: int = 2
    eval_examples: int = 128
    eval_prompts: int = 64
    dtype: str = "float32"
    lora_rank: int = 16
    lora_alpha: int = 32
    affinity_pairs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        least = dict.fromkeys(("max_steps", "affinity_pairs"), 0) | dict.fromkeys(
            (
                "batch_size",
                "eval_every",
                "patience",
                "eval_examples",
                "eval_prompts",
                "lora_rank",
                "lora_alpha",
            ),
            1,
        )
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {lowest}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; give one between 0 and 1")
        if self.max_steps and not 0 <= self.warmup_steps < self.max_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}; give 0 to {self.max_steps - 1} "
                "(max_steps - 1)"
            )
