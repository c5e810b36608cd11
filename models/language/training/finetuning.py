"""Fine-tunes the language model on (prompt, description) examples."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.common.checkpoints import numbered, seal
from models.language.language_model import (
    has_bfloat16,
    load_language_model,
    quiet_transformers,
    save_language_model,
)
from models.language.output_head import check_output_head
from models.language.prompt import description_token_ids
from models.language.training.examples import Example, collate, labelled_tokens
from models.language.training.finetune_config import FinetuneConfig
from models.language.training.output_head_fit import HeadTargets, fit_output_head
from models.language.training.training_log import (
    HistoryRow,
    best_step,
    history_of,
    is_over,
    last_checkpoint,
)
from models.language.training.validation import Measures, mean_loss


@dataclass(frozen=True)
class TrainingProgress:
    """The step just done of at most `total`, with its loss."""

    step: int
    total: int
    loss: float
    seconds_left: float


def finetune(
    base_model: str,
    train: Sequence[Example],
    valid: Sequence[Example],
    descriptions: Sequence[str],
    output: Path,
    checkpoints: Path,
    config: FinetuneConfig,
    on_progress: Callable[[TrainingProgress], None],
    on_checkpoint: Callable[[], None] = lambda: None,
    targets: HeadTargets | None = None,
    on_phase: Callable[[str], None] = lambda _: None,
    on_read: Callable[[int], None] = lambda done: None,
) -> list[HistoryRow]:
    """Fine-tune a language model and save the weights with the best validation loss in bfloat16.

    The examples teach all weights; then targets, if given, fit the output head. After a kill, a
    call with the same arguments continues from the last checkpoint and writes the same bytes.

    Raises ValueError if there are no examples, or the tokenizer merges prompts and completions, or
    the model's logits are not those of its output head.

    Parameters
    ----------
    base_model
        As of `load_language_model`.
    descriptions
        [M] by cluster id.
    output
        The Hugging Face folder to write; it appears whole or not at all.
    checkpoints
        A local folder to resume from. The caller removes it.
    on_progress, on_checkpoint
        Called after each step, after each checkpoint.
    on_phase
        Called with the name of a long phase without steps, before it.
    on_read
        Called with the number of prompts of the targets that the model has read.
    """
    for name, examples in (("training", train), ("validation", valid)):
        if not examples:
            raise ValueError(f"there are no {name} examples; give more interactions or users")
        for example in examples:
            if not 0 <= example.label < len(descriptions):
                raise ValueError(
                    f"the {name} example {example} has a label that is none of the "
                    f"{len(descriptions)} clusters; mine the transitions from the same clusters"
                )
            if example.completion != descriptions[example.label]:
                raise ValueError(
                    f"the {name} example {example} is not completed by its label's description "
                    f"{descriptions[example.label]!r}; mine the transitions from the same clusters"
                )
    # Other arguments do not resume from these checkpoints.
    arguments = (base_model, tuple(train), tuple(valid), tuple(descriptions), config)
    run = checkpoints / hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]
    order = np.random.default_rng(config.seed).permutation(len(valid))
    valid = [valid[row] for row in order[: config.eval_examples]]

    with quiet_transformers(), _deterministic():
        last = last_checkpoint(run)
        if config.max_steps and not is_over(last.log, config.max_steps, config.patience):
            observe = (on_progress, on_checkpoint)
            _train(base_model, train, valid, descriptions, run, last.checkpoint, config, *observe)
            last = last_checkpoint(run)
            if not is_over(last.log, config.max_steps, config.patience):
                raise RuntimeError(f"{run} has no whole checkpoint of the last step")
        log = last.log
        model, tokenizer = _best_model(base_model, run, log, config)
        if targets is not None:
            pairs = len(targets.prompts)
            on_phase(f"the output head is fitted to what follows {pairs:,} pairs")
            token_ids = description_token_ids(tokenizer, valid[0].prompt, descriptions)
            fit_output_head(model, tokenizer, targets, token_ids, config.seed, on_read)
        model = model.bfloat16()
        save_language_model(model, tokenizer, output)

        history = history_of(log)
        step = history[-1].step + 1 if history else 0
        if log and targets is None:
            kept = next(row for row in history if row.step == best_step(log))
            return [*history, replace(kept, step=step, loss=math.nan)]
        on_phase("the weights that are kept are measured")
        model = model.float()
        measures = Measures(tokenizer, valid[: config.eval_prompts], descriptions)
        loss = mean_loss(model, tokenizer, valid)
        return [*history, HistoryRow(step, math.nan, loss, **measures(model))]


def _best_model(
    base_model: str, run: Path, log: Sequence[dict[str, Any]], config: FinetuneConfig
) -> tuple[Any, Any]:
    """Load the model with the best validation loss, or the base model if none was trained."""
    if not log:
        model, tokenizer = load_language_model(base_model, "float32")
        check_output_head(model)
        return model, tokenizer
    best = str(run / f"checkpoint-{best_step(log)}")
    if config.method == "full":
        return load_language_model(best, "float32")
    from peft import PeftModel

    model, tokenizer = load_language_model(base_model, "float32")
    return PeftModel.from_pretrained(model, best).merge_and_unload(), tokenizer


def _train(
    base_model: str,
    train: Sequence[Example],
    valid: Sequence[Example],
    descriptions: Sequence[str],
    run: Path,
    last: Path | None,
    config: FinetuneConfig,
    on_progress: Callable[[TrainingProgress], None],
    on_checkpoint: Callable[[], None],
) -> None:
    """Train to the end, from the checkpoint `last` in the folder `run` or from the start."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    model, tokenizer = load_language_model(base_model, config.dtype)
    check_output_head(model)
    if config.method == "lora":
        from peft import LoraConfig, get_peft_model

        adapters = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        set_seed(config.seed)  # of the adapters' first weights
        model = get_peft_model(model, adapters)
    arguments = TrainingArguments(
        output_dir=str(run),
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        lr_scheduler_type="cosine",
        weight_decay=0.0,
        bf16=has_bfloat16(),
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=config.eval_every,
        eval_on_start=last is None,
        save_strategy="steps",
        save_steps=config.eval_every,
        logging_steps=1,
        seed=config.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    if arguments.n_gpu > 1:  # the trainer would multiply the batch
        raise ValueError("fine-tuning uses one GPU; make one visible with CUDA_VISIBLE_DEVICES")
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=[labelled_tokens(tokenizer, each) for each in train],
        eval_dataset=[labelled_tokens(tokenizer, each) for each in valid],
        data_collator=partial(collate, tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=[_observer(tokenizer, valid, descriptions, config, on_progress, on_checkpoint)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))


def _observer(
    tokenizer: Any,
    valid: Sequence[Example],
    descriptions: Sequence[str],
    config: FinetuneConfig,
    on_progress: Callable[[TrainingProgress], None],
    on_checkpoint: Callable[[], None],
) -> Any:
    """Return the callback that reports, measures, stops early and deletes old checkpoints."""
    from transformers import TrainerCallback

    measures = Measures(tokenizer, valid[: config.eval_prompts], descriptions)

    class Observer(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.started, self.first_step = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                taken = (time.monotonic() - self.started) / (state.global_step - self.first_step)
                left = taken * (config.max_steps - state.global_step)
                on_progress(
                    TrainingProgress(state.global_step, config.max_steps, logs["loss"], left)
                )

        def on_evaluate(
            self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any
        ) -> None:
            # Into the trainer's last log entry, which goes into the checkpoint.
            state.log_history[-1] |= measures(model)
            if is_over(state.log_history, config.max_steps, config.patience):
                control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            # The trainer's own clean-up goes by file times and could delete the best checkpoint.
            kept = {state.global_step, best_step(state.log_history)}
            for step, folder in numbered(Path(args.output_dir)).items():
                if step not in kept:
                    shutil.rmtree(folder)
            on_checkpoint()

    return Observer()


@contextmanager
def _deterministic() -> Iterator[None]:
    """Let torch use deterministic algorithms where it has them."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
