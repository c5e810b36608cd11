"""The last step of fine-tuning: the output head's rows of the clusters, fitted to a distribution.

Examples teach a small model the format of the answer long before they teach it which interest
follows which: one label a prompt says little. A whole distribution a prompt says much, and the
states of the last layer hold what it depends on, so that a linear readout of them is enough
(a linear probe: Alain & Bengio, arXiv 1610.01644; before other weights are changed it also spoils
least: Kumar et al., arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.language.language_model import last_hidden_states

_DECAY = 3e-4  # of the squared weights, in units of the states' spread
_ITERATIONS = 200


@dataclass(frozen=True)
class Targets:
    """What a model should answer.

    Attributes
    ----------
    prompts : tuple of n str
    probabilities : np.ndarray
        [n, M] float64 of each cluster after each prompt; 0 where it is no answer.
    """

    prompts: tuple[str, ...]
    probabilities: NDArray[np.float64]


def fit_readout(
    states: NDArray[np.float32], rows: NDArray[np.float32], targets: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Fit one row of an output head for each class.

    Minimises the mean cross-entropy between the targets and the softmax over the classes that may
    be answered, plus a decay of the weights. The rows start equal. In the end all are shifted
    alike, so that beside other tokens the classes together are as likely as they were.

    Parameters
    ----------
    states
        [n, width] last hidden states.
    rows
        [k, width] as they are. All start from their mean: what sets them apart from other tokens.
    targets
        [n, k], rows sum to 1; exactly 0 where a class may not be answered.

    Returns
    -------
    [k, width]
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax, logsumexp

    # The states share a direction that is ten times as long as what they differ in. Split off, it
    # is the intercept; the rest then has one scale, and the fit converges in tens of steps.
    mean = states.mean(0, dtype=np.float64)
    along = mean / (mean @ mean)  # [width]: states @ along is about 1
    across = states - np.outer(states @ along, mean)
    spread = across.std(0).mean() or 1.0
    features = np.column_stack([across / spread, states @ along])  # [n, width + 1]
    n, k = targets.shape
    shape = (k, features.shape[1])
    allowed = targets > 0

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        logits = np.where(allowed, features @ weights.T, -np.inf)
        log_p = log_softmax(logits, axis=1)
        entropy = -np.sum(targets * np.where(allowed, log_p, 0)) / n
        gradient = (np.exp(log_p) - targets).T @ features / n + 2 * _DECAY * weights
        return entropy + _DECAY * float(flat @ flat), gradient.ravel()

    start = np.zeros(shape).ravel()
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    weights = found.x.reshape(shape)
    # Back to the states: across = states - (states @ along) mean.
    turned = weights[:, :-1] / spread
    intercept = weights[:, -1] - turned @ mean
    fitted = rows.mean(axis=0) + turned + np.outer(intercept, along)
    shift = np.mean(logsumexp(states @ rows.T, axis=1) - logsumexp(states @ fitted.T, axis=1))
    return (fitted + shift * along).astype(np.float32)


def fit_output_head(
    model: Any, tokenizer: Any, targets: Targets, completions: Sequence[Sequence[int]]
) -> None:
    """Fit the head's rows of the first tokens of the clusters' descriptions; changes the model.

    The head is untied from the token embeddings, which stay as they are.

    Parameters
    ----------
    model, tokenizer
        As of `load_language_model`.
    targets
        Of M clusters.
    completions
        [M] token ids of the descriptions. Those that begin alike share a row.
    """
    import torch

    first = np.array([tokens[0] for tokens in completions])
    tokens, token_of = np.unique(first, return_inverse=True)
    mass = np.zeros((len(targets.prompts), len(tokens)))
    np.add.at(mass.T, token_of, targets.probabilities.T)
    states = last_hidden_states(model, tokenizer, targets.prompts)
    head = model.get_output_embeddings()
    rows = head.weight[tokens].detach().float().cpu().numpy()
    weight = head.weight.detach().clone()
    fitted = torch.from_numpy(fit_readout(states, rows, mass))
    weight[torch.from_numpy(tokens)] = fitted.to(weight.dtype).to(weight.device)
    untied = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    untied.weight = torch.nn.Parameter(weight)
    if (bias := getattr(head, "bias", None)) is not None:
        bias = bias.detach().clone()
        bias[tokens] = bias[tokens].mean()
        untied.bias = torch.nn.Parameter(bias)
    model.set_output_embeddings(untied)
    model.config.tie_word_embeddings = False
