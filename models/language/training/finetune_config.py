"""The settings of fine-tuning."""

from dataclasses import dataclass

METHODS = ("full", "lora")
DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True)
class FinetuneConfig:
    """The settings of fine-tuning. AdamW's rate rises over the warm-up, then falls as a cosine."""

    method: str = "full"  # all weights, or "lora" adapters (arXiv 2106.09685), merged at the end
    max_steps: int = 60  # 0: no training
    batch_size: int = 16
    learning_rate: float = 3e-4  # the highest
    warmup_steps: int = 6
    eval_every: int = 20  # steps between evaluations, each with a checkpoint
    patience: int = 2  # evaluations in a row without a better validation loss
    eval_examples: int = 128  # for the validation loss
    eval_prompts: int = 64  # of these, for match rate and recall
    dtype: str = "float32"  # of the weights; autocast to bfloat16 if `has_bfloat16`
    lora_rank: int = 16
    lora_alpha: int = 32  # the adapters' scale times the rank
    affinity_pairs: int = 20  # pairs per cluster that the output head is fitted to; 0: no fit
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        positive = ("batch_size", "eval_every", "patience", "eval_examples", "eval_prompts")
        least = dict.fromkeys(("max_steps", "affinity_pairs"), 0)
        least |= dict.fromkeys((*positive, "lora_rank", "lora_alpha"), 1)
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
