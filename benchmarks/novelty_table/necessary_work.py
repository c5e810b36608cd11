"""The arithmetic that no method can avoid, and the speed of matrix products on this machine."""

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from benchmarks.novelty_table.task import Answer, Task
from models.language.cost.model_size import model_size, product_tflops
from models.language.prompt import description_trie


class MatrixProducts:
    """The matrix products of a model (a local Hugging Face folder) on this machine."""

    def __init__(self, model: str) -> None:
        self._size = model_size(model)

    def flops_per_s(self) -> float:
        """Return the speed over all products of a layer."""
        return product_tflops(self._size) * 1e12


class NecessaryWork:
    """The work that no method can avoid to find given answers.

    Every token that prompts share is read once. A pair is evaluated at each branch of the trie of
    descriptions on the way to one of its answers, if more than one continuation is allowed: its
    probability depends on the model there. Branches without an answer, attention and the output
    head are not counted. So this is a lower bound for every method.
    """

    def __init__(self, task: Task) -> None:
        from models.language.language_model import load_tokenizer

        self._task = task
        self._flops_per_token = 2 * model_size(task.model).layer_parameters
        self._tokenizer = load_tokenizer(task.model)
        self._trie = description_trie(self._tokenizer, task.prompts)

    def flops(self, rows: Sequence[int], answer: Answer) -> float:
        """Return the floating point operations for the answer to some rows."""
        pairs = self._task.pairs(rows)
        prompts = self._tokenizer([self._task.prompts.render(*pair) for pair in pairs])["input_ids"]
        excluded = _marked(np.array(pairs), self._task.size)
        answered = _marked(answer.clusters, self._task.size) & ~excluded
        paths: list[list[tuple[int, ...]]] = [[] for _ in pairs]
        for branch in self._trie.branches:
            below = answered[:, np.concatenate(branch.clusters)].any(axis=1)
            allowed = [(~excluded[:, clusters]).any(axis=1) for clusters in branch.clusters]
            for pair in np.flatnonzero(below & (np.sum(allowed, axis=0) > 1)).tolist():
                paths[pair].append(branch.path)
        tokens = distinct_tokens(prompts) + sum(map(distinct_tokens, paths))
        return tokens * self._flops_per_token


def _marked(clusters: np.ndarray, size: int) -> np.ndarray:
    """Return where each row of ids has a cluster, [rows, size] bool; -1 is none."""
    marked = np.zeros((len(clusters), size + 1), bool)
    np.put_along_axis(marked, clusters % (size + 1), True, axis=1)  # -1 becomes the last column
    return marked[:, :size]


def distinct_tokens(texts: Sequence[Sequence[int]]) -> int:
    """Count the tokens of texts; a prefix that texts share counts once.

    Examples
    --------
    >>> distinct_tokens([(1, 2, 3), (1, 2, 4), (1, 2), ()])
    4
    """
    count = 0
    last: tuple[int, ...] = ()
    for text in sorted(map(tuple, texts)):
        same = (one == other for one, other in zip(text, last, strict=False))
        count += len(text) - sum(takewhile(bool, same))
        last = text
    return count
