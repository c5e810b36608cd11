from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from models.language.cost import count_queries
from models.language.cost.count_queries import QueryCounts, count_work
from models.language.description_trie import DescriptionTrie
from models.language.language_model import load_tokenizer
from models.language.prompt import (
    BLOCK_TOKENS,
    Prompts,
    PromptTemplate,
    aligned_starts,
    completion_token_ids,
)
from tests.models.language.tiny_llm import save_tiny_llm

TEMPLATES = [
    "{filler}Earlier: {c1}\nLatest: {c2}\nNext:\n",
    "Earlier: {c1}\nLatest: {c2}\nNext:\n",  # the start is no whole number of blocks
    "{c1}{c2}\n",  # tokens cross the cut between the start and the rest
]
WORDS = ["tea", "green", "a", "running shoes", "space opera", "chess club of the old town", "茶"]
NAME = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(", ".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path):
    return load_tokenizer(str(folder))


def prompts_of(tokenizer, template: str, names) -> Prompts:
    parsed = PromptTemplate.parse(template)
    return Prompts(tuple(aligned_starts(tokenizer, parsed, names)), tuple(names), parsed.after)


def trie_of(tokenizer, prompts: Prompts) -> DescriptionTrie:
    some = prompts.render(0, 0)
    ids = [completion_token_ids(tokenizer, some, text) for text in prompts.descriptions]
    return DescriptionTrie(ids, tokenizer.eos_token_id)


def open_branches(trie: DescriptionTrie, excluded) -> list:
    mask = np.zeros((1, len(trie)), bool)
    mask[0, list(excluded)] = True
    counts = trie.allowed_counts(mask)
    return [b for b, count in zip(trie.branches, counts, strict=True) if (count[0] > 0).sum() > 1]


def row_parts(size: int, at_once: int = 1024) -> list[range]:
    parts = -(-size // at_once)
    return [range(size * part // parts, size * (part + 1) // parts) for part in range(parts)]


class Cache:
    """Computes texts with a cache of blocks, and counts what it computes."""

    def __init__(self) -> None:
        self._blocks: set[tuple[int, ...]] = set()
        self.asked = QueryCounts()

    def ask(self, ids) -> None:
        cached = 0
        while (
            cached + BLOCK_TOKENS < len(ids) and tuple(ids[: cached + BLOCK_TOKENS]) in self._blocks
        ):
            cached += BLOCK_TOKENS
        for end in range(BLOCK_TOKENS, len(ids) + 1, BLOCK_TOKENS):
            self._blocks.add(tuple(ids[:end]))
        self.asked += QueryCounts(1, len(ids), len(ids) - cached)


def slow_count(tokenizer, prompts: Prompts, blocked, parts) -> tuple[QueryCounts, QueryCounts]:
    """Ask every pair one by one: at the first branch, and then at all others."""
    size = len(prompts.descriptions)
    trie = trie_of(tokenizer, prompts)
    branches = open_branches(trie, blocked)
    first, every = QueryCounts(), QueryCounts()
    for c1 in range(size):
        for part in parts:
            cache = Cache()
            ids = [tokenizer(prompts.render(c1, c2))["input_ids"] for c2 in part]
            for c2, prompt in zip(part, ids, strict=True):
                if branches and branches[0] in open_branches(trie, {*blocked, c1, c2}):
                    cache.ask([*prompt, *branches[0].path])
            first += cache.asked
            cache.asked = QueryCounts()
            for branch in branches[1:]:
                for prompt in ids:
                    cache.ask([*prompt, *branch.path])
            every += cache.asked
    return first, every


@st.composite
def tables(draw):
    names = draw(st.lists(NAME, min_size=2, max_size=9, unique=True))
    blocked = draw(st.sets(st.integers(0, len(names) - 1), max_size=3))
    return draw(st.sampled_from(TEMPLATES)), names, sorted(blocked), draw(st.integers(1, 10))


slowly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@slowly
@given(table=tables(), whole=st.booleans())
def test_first_queries_are_those_of_a_real_cache(tokenizer, table, whole):
    template, names, blocked, at_once = table
    assume(whole or template != TEMPLATES[2])
    prompts = prompts_of(tokenizer, template, names)
    parts = row_parts(len(names), at_once)
    first, _ = slow_count(tokenizer, prompts, blocked, parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count_queries, "_SAMPLED_PROMPTS", 1000 if whole else 1)
        assert count_work(tokenizer, prompts, blocked, 3, parts).first == first


def test_the_last_token_is_computed_though_all_blocks_are_cached(tokenizer):
    names = ("tea\nsalt", "tea", "rye", "jam", "oat")  # the second prompt begins the first
    for length in range(BLOCK_TOKENS):
        prompts = Prompts((" ." * length + "\n",) * 5, names, "\n")
        first, _ = slow_count(tokenizer, prompts, (), row_parts(5))
        assert count_work(tokenizer, prompts, (), 3, row_parts(5)).first == first


@slowly
@given(table=tables())
def test_all_deeper_queries_are_those_of_a_real_cache_or_a_little_more(tokenizer, table):
    template, names, blocked, at_once = table
    prompts = prompts_of(tokenizer, template, names)
    parts = row_parts(len(names), at_once)
    first, slow = slow_count(tokenizer, prompts, blocked, parts)
    assume(first.count == len(names) ** 2)  # otherwise not all prompts are in the cache
    every = count_work(tokenizer, prompts, blocked, 3, parts).every
    assert (every.count, every.tokens) == (slow.count, slow.tokens)
    assert slow.computed <= every.computed <= slow.tokens


@slowly
@given(table=tables(), n=st.integers(1, 4))
def test_expected_queries_are_the_mean_over_all_sets_of_answers(tokenizer, table, n):
    template, names, blocked, _ = table
    allowed = sorted(set(range(len(names))) - set(blocked))
    assume(len(allowed) >= n)
    prompts = prompts_of(tokenizer, template, names)
    below = [
        set(np.concatenate(branch.clusters).tolist())
        for branch in open_branches(trie_of(tokenizer, prompts), blocked)[1:]
    ]
    asked = [
        sum(bool(clusters & set(answers)) for clusters in below)
        for answers in combinations(allowed, n)
    ]
    work = count_work(tokenizer, prompts, blocked, n, row_parts(len(names)))
    assert work.deeper.count == pytest.approx(work.pairs * np.mean(asked))


def many_names(count: int) -> list[str]:
    return [f"{WORDS[i % 5]}, {WORDS[i % 7]}, {i} {WORDS[i % 3]}" for i in range(count)]


def test_few_prompts_are_tokenised_where_the_tokenizer_cuts(tokenizer):
    texts = 0

    class Counting:
        eos_token_id = tokenizer.eos_token_id

        def __call__(self, text, **options):
            nonlocal texts
            texts += 1 if isinstance(text, str) else len(text)
            return tokenizer(text, **options)

    prompts = prompts_of(tokenizer, TEMPLATES[0], many_names(100))
    count_work(Counting(), prompts, (), 3, row_parts(100))
    assert texts <= 5 * 100


def test_some_rows_stand_for_all_where_the_tokenizer_does_not_cut(tokenizer, monkeypatch):
    prompts = prompts_of(tokenizer, TEMPLATES[2], many_names(30))
    exact = count_work(tokenizer, prompts, (), 3, row_parts(30)).first
    monkeypatch.setattr(count_queries, "_SAMPLED_PROMPTS", 300)
    sampled = count_work(tokenizer, prompts, (), 3, row_parts(30)).first
    assert sampled.count == exact.count
    assert sampled.tokens != exact.tokens
    assert sampled.tokens == pytest.approx(exact.tokens, rel=0.1)


def test_a_single_allowed_cluster_asks_nothing(tokenizer):
    prompts = prompts_of(tokenizer, TEMPLATES[0], WORDS[:3])
    work = count_work(tokenizer, prompts, [0, 2], 3, row_parts(3))
    assert work.most == QueryCounts()
    assert work.cached_share == 0
