"""The last step of fine-tuning: fits the output head's rows of the clusters to a distribution.

Examples teach a small model the format of the answer much earlier than which interest follows which
one: one label per prompt carries little information. A whole distribution per prompt carries much,
and it is a nearly linear function of the last layer's states (a linear probe: Alain & Bengio, arXiv
1610.01644; fitted first it distorts least: Kumar et al., arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.language.language_model import hidden_states

_DECAY = 3e-4  # of squared weights, in units of the states' spread
_ITERATIONS = 200
_ROWS = 256  # states at once for the logits of the whole vocabulary


@dataclass(frozen=True)
class HeadTargets:
    """The distributions that a model should answer."""

    prompts: tuple[str, ...]  # [n]
    probabilities: NDArray[np.float64]  # [n, M] by cluster; rows sum to 1, 0 for no answer


@dataclass(frozen=True)
class Positions:
    """States of a model and the wanted next tokens there, for k classes of first tokens."""

    states: NDArray[np.float32]  # [n, width]
    others: NDArray[np.float32]  # [n] log of the summed exp of the logits of all other tokens
    targets: NDArray[np.float64]  # [n, k + 1] of the classes and any other token; rows sum to 1
    allowed: NDArray[np.bool_]  # [n, k]; a class that is not allowed takes no part


def fit_head_rows(
    rows: NDArray[np.float32], begin: Positions, inside: Positions
) -> NDArray[np.float32]:
    """Fit one row of an output head for each of k classes, [k, width]; other rows stay.

    Minimises the mean cross-entropy at the beginnings of answers plus that inside answers, between
    the targets and the softmax over allowed classes and all other tokens, plus a weight decay. All
    rows start from their mean, which separates them from other tokens.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    # The states share a direction ten times as long as their differences. It is split off as the
    # intercept. The rest has the scale of the beginnings: with a common scale of both kinds of
    # states, the decay would hide the differences between the beginnings.
    mean = begin.states.mean(0, dtype=np.float64)
    along = mean / (mean @ mean)  # [width]: states @ along is about 1
    spread = (begin.states - np.outer(begin.states @ along, mean)).std(0).mean() or 1.0
    start = rows.mean(axis=0, dtype=np.float64)

    def features(states: NDArray[np.float32]) -> NDArray[np.float64]:
        across = states - np.outer(states @ along, mean)
        return np.column_stack([across / spread, states @ along])  # [n, width + 1]

    parts = [
        (features(each.states), (each.others - each.states @ start)[:, None], each)
        for each in (begin, inside)
    ]
    shape = (len(rows), len(mean) + 1)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        total, gradient = _DECAY * float(flat @ flat), 2 * _DECAY * weights
        for states, others, at in parts:
            logits = np.where(at.allowed, states @ weights.T, -np.inf)
            log_p = log_softmax(np.column_stack([logits, others]), axis=1)
            total -= np.sum(at.targets * np.where(at.targets > 0, log_p, 0)) / len(states)
            gradient += (np.exp(log_p) - at.targets)[:, :-1].T @ states / len(states)
        return total, gradient.ravel()

    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    weights = found.x.reshape(shape)
    # Back to the states: across = states - (states @ along) mean.
    turned = weights[:, :-1] / spread
    intercept = weights[:, -1] - turned @ mean
    return (start + turned + np.outer(intercept, along)).astype(np.float32)


def fit_output_head(
    model: Any,
    tokenizer: Any,
    targets: HeadTargets,
    completions: Sequence[Sequence[int]],
    seed: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Fit the head's rows of the first tokens of the clusters' descriptions; changes the model.

    Rows learn from the targets where a description begins, and from one seeded random place inside
    a description per prompt where it goes on: otherwise the model would say a beginning in the
    middle too. The head is untied from the token embeddings, which stay.

    `completions` are the [M] token ids of the descriptions; equal first tokens share a row.
    `on_progress` is called with the number of prompts that the model has read.
    """
    import torch

    tokens, token_of = np.unique([tokens[0] for tokens in completions], return_inverse=True)
    head = model.get_output_embeddings()
    weight = head.weight.detach().clone()
    bias = getattr(head, "bias", None)
    if bias is not None:
        bias = bias.detach().clone()
        bias[tokens] = bias[tokens].mean()
    begin = [tokenizer(prompt)["input_ids"] for prompt in targets.prompts]
    inside, after = _inside(begin, targets, completions, tokenizer.eos_token_id, seed)

    # A prompt begins the text that goes on inside the answer: one pass gives both states.
    ends = np.array([list(map(len, pair)) for pair in zip(begin, inside, strict=True)])
    states = hidden_states(model, inside, ends, on_progress)  # [n, 2, width]

    def positions(kind: int, wanted: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Positions:
        there = np.ascontiguousarray(states[:, kind])
        return Positions(there, _others(there, weight, bias, tokens), wanted, allowed)

    first = np.zeros((len(begin), len(tokens) + 1))
    np.add.at(first.T, token_of, targets.probabilities.T)
    column = np.searchsorted(tokens, after)
    known = tokens[np.minimum(column, len(tokens) - 1)] == after
    later = np.eye(len(tokens) + 1)[np.where(known, column, len(tokens))]
    fitted = fit_head_rows(
        weight[tokens].float().cpu().numpy(),
        positions(0, first, first[:, :-1] > 0),
        positions(1, later, np.ones_like(later[:, :-1], bool)),
    )
    weight[tokens] = torch.from_numpy(fitted).to(weight)
    untied = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    untied.weight = torch.nn.Parameter(weight)
    if bias is not None:
        untied.bias = torch.nn.Parameter(bias)
    model.set_output_embeddings(untied)
    model.config.tie_word_embeddings = False


def _inside(
    begin: Sequence[list[int]],
    targets: HeadTargets,
    completions: Sequence[Sequence[int]],
    end: int,
    seed: int,
) -> tuple[list[list[int]], NDArray[np.int64]]:
    """Draw a description and a place in it per prompt: the text up to there, the next token."""
    rng = np.random.default_rng(seed)
    texts, after = [], []
    for ids, probabilities in zip(begin, targets.probabilities, strict=True):
        whole = [*completions[rng.choice(len(completions), p=probabilities)], end]
        place = rng.integers(1, len(whole))
        texts.append([*ids, *whole[:place]])
        after.append(whole[place])
    return texts, np.array(after)


def _others(
    states: NDArray[np.float32], weight: Any, bias: Any, tokens: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the log of the summed exp of the logits of all other tokens, [n].

    Less the bias that `tokens` share, so that their logits are the products with their rows.
    """
    import torch

    found = []
    for rows in torch.from_numpy(states).split(_ROWS):
        logits = torch.nn.functional.linear(rows.to(weight), weight, bias).float()
        logits[:, tokens] = -torch.inf
        found.append(logits.logsumexp(dim=1).cpu().numpy())
    return np.concatenate(found) - (0 if bias is None else float(bias[tokens[0]]))
