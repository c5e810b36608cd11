"""A trie of the descriptions' tokens, and the language model's distribution over descriptions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, eq=False)
class Branch:
    """A place in the trie where more than one token may come next."""

    path: tuple[int, ...]  # the tokens between the prompt and this place
    tokens: np.ndarray  # [k] int64, k >= 2, ascending: the possible next tokens
    clusters: tuple[np.ndarray, ...]  # [k] ids of the clusters behind each token


class DescriptionTrie:
    """The descriptions of M clusters, by cluster id, as a trie of tokens.

    Each description ends with the end token, which separates a description from its prefixes. The
    model has a choice only at a branch: elsewhere one token is possible, and the model is not
    asked. Branches are in breadth-first order; a single description has none.

    Raises
    ------
    ValueError
        If there is no description, two have the same tokens, or one contains the end token.

    Examples
    --------
    >>> trie = DescriptionTrie([[5], [5, 6], [7, 8]], end_token=0)
    >>> [(branch.path, branch.tokens.tolist()) for branch in trie.branches]
    [((), [5, 7]), ((5,), [0, 6])]
    >>> raw = [np.log([[0.3, 0.1]]), np.log([[0.2, 0.2]])]
    >>> np.exp(trie.log_probabilities(raw, np.zeros((1, 3), bool))).round(3).tolist()
    [[0.375, 0.375, 0.25]]
    """

    def __init__(self, token_ids: Sequence[Sequence[int]], end_token: int) -> None:
        first_cluster: dict[tuple[int, ...], int] = {}
        for cluster, description in enumerate(token_ids):
            if end_token in description:
                raise ValueError(
                    f"the description of cluster {cluster} contains the end token {end_token}: "
                    f"{list(description)}; remove it from the description"
                )
            key = tuple(int(token) for token in description)
            if first_cluster.setdefault(key, cluster) != cluster:
                raise ValueError(
                    f"clusters {first_cluster[key]} and {cluster} have the same description "
                    f"{list(key)}; give each its own"
                )
        if not first_cluster:
            raise ValueError("there are no descriptions; give at least one")

        # In the order of the tokens, the clusters below any place of the trie are neighbours.
        paths = sorted((*path, end_token) for path in first_cluster)
        self._order = np.array([first_cluster[path[:-1]] for path in paths])  # [M]
        branches: list[Branch] = []
        bounds: list[np.ndarray] = []  # by branch [k + 1]: continuation j is order[b[j] : b[j + 1]]
        places = deque([(0, 0, len(paths))])  # depth, and the paths start..stop that agree so far
        while places:
            depth, start, stop = places.popleft()
            if stop - start == 1:
                continue
            following = np.array([path[depth] for path in paths[start:stop]])
            tokens, first = np.unique(following, return_index=True)
            edges = np.append(start + first, stop)
            if len(tokens) > 1:
                clusters = tuple(np.split(self._order[start:stop], first[1:]))
                branches.append(Branch(paths[start][:depth], tokens, clusters))
                bounds.append(edges)
            places.extend((depth + 1, low, high) for low, high in pairwise(edges.tolist()))
        self.branches: tuple[Branch, ...] = tuple(branches)
        self._bounds = tuple(bounds)

    def __len__(self) -> int:
        """Return M, the number of descriptions."""
        return len(self._order)

    def allowed_counts(self, excluded: np.ndarray) -> list[np.ndarray]:
        """Count the allowed descriptions behind each token of each branch: [batch, k] int64.

        The clusters that are `excluded`, [batch, M] bool, are not allowed.
        """
        before = np.zeros((len(excluded), len(self) + 1), np.int64)
        np.cumsum(~excluded[:, self._order], axis=1, out=before[:, 1:])
        return [np.diff(before[:, edges], axis=1) for edges in self._bounds]

    def log_probabilities(
        self, branch_log_probs: Sequence[np.ndarray], excluded: np.ndarray
    ) -> np.ndarray:
        """Return the constrained distribution over the clusters for a batch of prompts.

        The probability of a description is the product over its branches of the model's
        probability of its token, divided by the sum over the tokens that lead to some allowed
        description.

        Raises ValueError if all allowed tokens of a branch have the probability 0.

        Parameters
        ----------
        branch_log_probs
            For each branch [batch, k] log-probabilities of its tokens, up to a constant per row.
            Those of tokens that lead only to excluded clusters are not read.
        excluded
            [batch, M] bool.

        Returns
        -------
        np.ndarray
            [batch, M] float64, -inf where excluded. The probabilities of a row sum to 1, or are 0
            if all clusters are excluded.
        """
        allowed = ~excluded[:, self._order]  # [batch, M] in trie order, as is everything below
        result = np.where(allowed, 0.0, -np.inf)
        for branch, edges, scores, allowed_behind in zip(
            self.branches,
            self._bounds,
            branch_log_probs,
            self.allowed_counts(excluded),
            strict=True,
        ):
            open_ = allowed_behind > 0  # [batch, k]
            open_scores = np.where(open_, scores.astype(np.float64), -np.inf)
            top = open_scores.max(axis=1, keepdims=True)
            reached = open_.any(axis=1, keepdims=True)
            if not np.isfinite(top[reached]).all():
                raise ValueError(
                    f"after {branch.path} the model gives no usable log-probability to any allowed "
                    f"token of {branch.tokens.tolist()}; score each of them"
                )
            shifted = open_scores - np.where(reached, top, 0.0)
            with np.errstate(divide="ignore"):
                total = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            factors = shifted - np.where(reached, total, 0.0)  # [batch, k]
            result[:, edges[0] : edges[-1]] += np.repeat(factors, np.diff(edges), axis=1)
        return result[:, np.argsort(self._order)]
