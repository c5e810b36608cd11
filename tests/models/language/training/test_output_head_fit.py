"""Rows of the output head that are fitted to hidden states."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from models.language.language_model import hidden_states, load_language_model
from models.language.training.output_head_fit import (
    HeadTargets,
    Positions,
    fit_head_rows,
    fit_output_head,
)
from tests.models.language.tiny_llm import save_tiny_llm


def positions(states: np.ndarray, targets: np.ndarray) -> Positions:
    """Return places at which one of the classes is right, beside others that hardly are."""
    n, k = targets.shape
    return Positions(
        states.astype(np.float32),
        np.full(n, -10, np.float32),
        np.column_stack([targets, np.zeros(n)]),
        np.ones((n, k), bool),
    )


def nowhere(width: int, k: int) -> Positions:
    """Return a place that teaches nothing."""
    at = positions(np.zeros((1, width)), np.zeros((1, k)))
    return replace(at, targets=np.eye(k + 1)[[k]], others=np.full(1, 99, np.float32))


def test_it_recovers_a_distribution_that_the_states_determine() -> None:
    rng = np.random.default_rng(0)
    states = 5 + rng.normal(size=(400, 8))
    targets = softmax(states @ rng.normal(scale=0.3, size=(8, 4)), axis=1)
    rows = fit_head_rows(np.zeros((4, 8), np.float32), positions(states, targets), nowhere(8, 4))
    assert softmax(states @ rows.T, axis=1) == pytest.approx(targets, abs=0.03)


def test_what_may_not_be_answered_is_left_out_of_the_softmax() -> None:
    """Where one of two classes is not allowed, nothing is to be learned of the two."""
    states = np.random.default_rng(0).normal(size=(20, 3))
    at = positions(states, np.tile([1.0, 0.0], (20, 1)))
    only = replace(at, allowed=np.tile([True, False], (20, 1)), others=np.full(20, -99, np.float32))
    before = np.ones((2, 3), np.float32)
    assert fit_head_rows(before, only, nowhere(3, 2)) == pytest.approx(before, abs=1e-6)


def test_equal_states_teach_the_mean() -> None:
    targets = np.repeat([[0.9, 0.1], [0.5, 0.5]], 5, axis=0)
    rows = fit_head_rows(
        np.zeros((2, 3), np.float32), positions(np.ones((10, 3)), targets), nowhere(3, 2)
    )
    found = softmax(np.ones((10, 3)) @ rows.T, axis=1)
    assert found == pytest.approx(np.tile([0.7, 0.3], (10, 1)), abs=0.01)


def test_other_tokens_win_inside_of_answers() -> None:
    rng = np.random.default_rng(0)
    states = (5 + rng.normal(size=(400, 8))).astype(np.float32)
    states[200:, 0] += 5
    targets = np.tile([0.5, 0.5], (200, 1))
    begin, inside = positions(states[:200], targets), positions(states[200:], 0 * targets)
    begin = replace(begin, others=np.zeros(200, np.float32))
    inside = replace(inside, others=begin.others, targets=np.tile([0.0, 0.0, 1.0], (200, 1)))
    rows = fit_head_rows(rng.normal(size=(2, 8)).astype(np.float32), begin, inside)
    won = (states @ rows.T).max(axis=1) > 0
    assert won[:200].mean() > 0.95
    assert won[200:].mean() < 0.05


def test_a_head_says_a_beginning_where_a_description_begins_alone(tmp_path: Path) -> None:
    """Rows that are fitted to beginnings alone are said in the middle of descriptions too."""
    model, tokenizer = load_language_model(str(save_tiny_llm(tmp_path)), "float32")
    prompts = tuple(f"Prompt {number}:\n" for number in range(20))
    answers = np.arange(20) % 2
    completions = [[10, 20, 21], [11, 22]]
    right = np.where(np.arange(2) == answers[:, None], 0.999, 0.001)
    fit_output_head(model, tokenizer, HeadTargets(prompts, right), completions, seed=0)

    def said(texts: list[list[int]]) -> list[int]:
        lengths = np.array([[len(text)] for text in texts])
        states = hidden_states(model, texts, lengths)[:, 0]
        head = model.get_output_embeddings().weight.detach().numpy()
        return (states @ head.T).argmax(axis=1).tolist()

    begin = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    first = [completions[answer][0] for answer in answers]
    assert said(begin) == first
    inside = [[*ids, token] for ids, token in zip(begin, first, strict=True)]
    assert not {10, 11} & set(said(inside))
