"""Names interest clusters in language: a few keywords, unique within a level.

Terms are the items' own keywords, pairs of these ("horror & comedy"), and the words and word pairs
of their texts. They are scored by class-based TF-IDF. Each cluster leads with a keyword of its own,
so descriptions are unique by construction, and as far as terms reach with a first token of its own:
then one look at the language model's first token gives the probabilities of all clusters. The leads
are a maximum-weight matching of clusters to first tokens.
"""

import functools
import itertools
import re
import string
import types
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse
import stopwordsiso
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

_TEXT_CHARACTERS = 1_000  # a text says early what it is about; the rest costs time
_TERM_CHARACTERS = 40
_TERM_WORDS = 4
_PAIRED_KEYWORDS = 100  # the most frequent ones; a pair of rare ones names nothing
_PAIRED_PER_ITEM = 8

# What an occurrence counts: an owner's keyword was put there to say what the item is about.
_KEYWORD, _PAIR, _WORD, _PHRASE = 1.0, 0.9, 0.4, 0.44

_MIN_SHARE = 0.05  # of a cluster's items that carry a good term
_LIFT = 1.25  # times the share outside that a good term has inside, of the items and of the traffic
_USUAL_SHARE = 0.3  # of its items: from here on a term describes, even if it is no rarer outside
# Factors on the scores of terms that describe but do not tell apart, and of those that do neither:
# they are used only where there is nothing better.
_USUAL, _WEAK = 1e-2, 1e-4
_LEAD_SHARE_POWER = 1.0
_UNSEEN = 1e-6  # of the mean traffic, for an item without any
_CANDIDATES = 100  # leads considered per cluster
# A word that this many items of a cluster carry, and this many times the share that carries it
# outside, is proper to the cluster: it may lead a description that goes on with broader terms.
_PROPER_ITEMS, _PROPER_LIFT = 3, 4
_PAIR_LEAD = 0.01  # worth of a pair as a lead: it begins like others do
# Of its worth, what a lead counts: one that says nothing is not made up for by a very good one.
_LEAD_POWER = 0.1
_LANGUAGE_SAMPLE = 2_000  # texts
_LANGUAGE_HITS = 2  # stop words that make a text vote for a language
_OCCURS, _COMMON = 0.01, 0.2  # shares of the votes

_TAG = re.compile(r"<[^<>]{0,40}>")  # markup and special tokens such as <|im_end|>
_PART = re.compile(r"[^\s&'-]+(?:[&'-][^\s&'-]+)*|&")
_NUMBER = re.compile(
    r"[\d'-]+(?:'?s|st|nd|rd|th|er|e|х|е|г|-х|-е|年|年代|년|년대)?|(?=..)x{0,3}(?:ix|iv|v?i{0,3})"
)
_SCRIPT = re.compile(
    "(?P<han>[\u3005\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)|(?P<kana>[\u30a1-\u30ff]+)"
    "|(?P<hiragana>[\u3041-\u309f]+)|(?P<other>[^\u3005\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+)"
)
_HAN = "\u3000"  # from here on scripts in which one character may be a word
_HAN_PARTICLES = re.compile("[的了是在与及]")
# Letters and marks by category that show as nothing: fillers, joiners, variation selectors.
_INVISIBLE = {
    0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10),
    0xFFA0, *range(0xE0100, 0xE01F0),
}  # fmt: skip


class _Fold(dict[int, str | None]):
    """Table for `str.translate`: phrase ends become line feeds, what else is no word a space."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        folded: str | None = " "
        if category == "Cf" or code in _INVISIBLE:
            folded = None
        elif character in "'’ʼ＇":
            folded = "'"
        elif character in "-‐‑":
            folded = "-"
        elif character == "&" or category[0] == "L" or category in ("Mn", "Mc", "Nd"):
            folded = character
        elif character == "\n" or category in ("Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sm"):
            folded = "\n"
        self[code] = folded
        return folded


_FOLD = _Fold()


def description(keywords: Sequence[str]) -> str:
    """Join keywords to the one line that the language model sees.

    Examples
    --------
    >>> description(["horror", "zombies"])
    'horror, zombies'
    """
    return ", ".join(keywords)


def normalise_keyword(text: str) -> str:
    """Fold a keyword to lower-case words: letters, marks, digits, inner ``- ' &``, single spaces.

    NFKC throughout; markup, punctuation, control characters and emoji go. May return "".

    Examples
    --------
    >>> normalise_keyword("  Rock’n’Roll,  R&B <|im_end|> \U0001f3b8")
    "rock'n'roll r&b"
    """
    parts = _parts(_fold(text).replace("\n", " "))
    kept: list[str] = []
    for part in parts:
        if part != "&" or (kept and kept[-1] != "&"):
            kept.append(part)
    while kept and kept[-1] == "&":
        kept.pop()
    return " ".join(kept)


def class_tf_idf(frequencies: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Class-based TF-IDF: tf(t, c) * ln(1 + A / f(t)).

    f(t) is the frequency of term t over all classes and A the mean total frequency of a class.
    Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure",
    arXiv 2203.05794.

    Parameters
    ----------
    frequencies
        [classes, terms] float, >= 0.

    Returns
    -------
    scipy.sparse.csr_array
        [classes, terms] float64 of the same sparsity.
    """
    scores = scipy.sparse.csr_array(frequencies, dtype=np.float64, copy=True)
    per_term = np.asarray(scores.sum(0)).ravel()
    per_class = scores.sum() / max(1, scores.shape[0])
    scores.data *= np.log1p(per_class / per_term[scores.indices])
    return scores


def describe_clusters(
    cluster_ids: np.ndarray,
    cluster_count: int,
    keywords: Sequence[Sequence[str]],
    texts: Sequence[str],
    traffic: np.ndarray,
    first_tokens: Callable[[Sequence[str]], Sequence[Hashable]],
    keyword_count: int = 4,
    kept: Mapping[int, Sequence[str]] = types.MappingProxyType({}),
) -> list[list[str]]:
    """Return the keywords of each cluster of a level, most telling first.

    Parameters
    ----------
    cluster_ids
        [n] int, 0 to cluster_count - 1.
    cluster_count
        Number of clusters. One without any usable term gets a made-up label ("unnamed a").
    keywords
        Of each item, may be empty.
    texts
        Of each item, the title first, may be empty.
    traffic
        [n] interactions: popular items count more (logarithmically).
    first_tokens
        Of each of some keywords, the first token of a description that begins with it.
    keyword_count
        At most this many keywords per new name.
    kept
        Clusters that have a name already; the others get different ones.

    Returns
    -------
    list of list of str
        Per cluster 1 to keyword_count normalised keywords; no two clusters have the same first one,
        and as few as possible the same first token.
    """
    lengths = {len(cluster_ids), len(keywords), len(texts), len(traffic)}
    if len(lengths) > 1 or cluster_count < 1 or keyword_count < 1:
        raise ValueError(
            f"{len(cluster_ids)} cluster ids, {len(keywords)} keyword lists, {len(texts)} texts, "
            f"{len(traffic)} traffic counts, {cluster_count} clusters of {keyword_count} keywords: "
            "pass one of each per item, and at least one cluster and keyword"
        )
    terms, carried = _item_terms(keywords, texts)
    weights = 1 + np.log1p(np.asarray(traffic, np.float64))
    scores, shares, factors, proper = _scores(
        np.asarray(cluster_ids), cluster_count, carried, weights, np.asarray(traffic, np.float64)
    )
    # A lead stands for the whole cluster, so the share of the items that carry it counts once more.
    worth = scores.data * shares**_LEAD_SHARE_POWER
    scores.data *= factors
    pair = np.array([" & " in term for term in terms], bool)[scores.indices]
    worth *= np.where(pair, _PAIR_LEAD * factors, np.where(proper, 1.0, factors))
    leads = _leads(scores, worth, terms, first_tokens, kept)
    result = []
    for cluster, lead in enumerate(leads):
        if cluster in kept:
            result.append(list(kept[cluster]))
            continue
        row = slice(*scores.indptr[cluster : cluster + 2])
        columns, values = scores.indices[row], scores.data[row]
        good = factors[row] == factors[row].max(initial=0)
        best_first = columns[good][np.lexsort((columns[good], -values[good]))]
        # Pairs are for leads, where single keywords run out.
        others = (terms[column] for column in best_first if " & " not in terms[column])
        result.append(_distinct(lead, others, keyword_count))
    return result


def _fold(text: str) -> str:
    """NFKC, lower case, and only characters of words, spaces and line feeds."""
    folded = unicodedata.normalize("NFKC", _TAG.sub("\n", text)).lower().translate(_FOLD)
    return unicodedata.normalize("NFKC", folded)


def _parts(folded: str) -> list[str]:
    """Words and lone "&" of a folded phrase; a mark without its letter is no word."""
    parts = []
    for part in _PART.findall(folded):
        start = next((i for i, character in enumerate(part) if character.isalnum()), len(part))
        if part == "&" or start < len(part):
            parts.append(part[start:] if part != "&" else part)
    return parts


def _item_terms(
    keywords: Sequence[Sequence[str]], texts: Sequence[str]
) -> tuple[list[str], scipy.sparse.csr_array]:
    """Terms, and what each item's occurrence of them counts: [n, terms] float64."""
    phrases = [_phrases(text) for text in texts]
    owned = _normalised(keywords)
    stop, owner_stop = _stop_words(phrases)
    telling = functools.cache(lambda word: _telling(word, stop))
    word_carriers = Counter(word for item in phrases for word in set(itertools.chain(*item)))
    everywhere = {word for word, n in word_carriers.items() if n > max(3, len(texts) / 4)}
    owned = [[keyword for keyword in mine if _telling(keyword, owner_stop)] for mine in owned]
    carriers = Counter(keyword for mine in owned for keyword in mine)
    ranked = sorted(carriers, key=lambda keyword: (-carriers[keyword], keyword))
    rank = {keyword: place for place, keyword in enumerate(ranked[:_PAIRED_KEYWORDS])}

    columns: dict[str, int] = {}
    indices: list[int] = []
    data: list[float] = []
    indptr = [0]
    for mine, words in zip(owned, phrases, strict=True):
        values = dict(_text_terms(words, telling, everywhere))
        values.update((pair, _PAIR) for pair in _pairs(mine, rank))
        values.update((keyword, _KEYWORD) for keyword in mine)
        indices.extend(columns.setdefault(term, len(columns)) for term in values)
        data.extend(values.values())
        indptr.append(len(indices))
    carried = scipy.sparse.csr_array((data, indices, indptr), shape=(len(texts), len(columns)))
    return _without_variants(list(columns), carried)


def _normalised(keywords: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each item's distinct normalised keywords, in its order."""
    known = {keyword: normalise_keyword(keyword) for mine in keywords for keyword in mine}
    return [list(dict.fromkeys(known[keyword] for keyword in mine)) for mine in keywords]


def _phrases(text: str) -> list[list[str]]:
    """Words of a text, phrase by phrase."""
    text = text.strip()
    if len(text) > _TEXT_CHARACTERS:
        text = text[:_TEXT_CHARACTERS].rsplit(None, 1)[0]  # no half word at the end
    folded = _fold(text)
    return [list(_segments(phrase)) for phrase in folded.split("\n") if phrase.strip()]


def _segments(phrase: str) -> Iterator[str]:
    """Words of a phrase; Chinese and Japanese, which set no spaces, by script.

    A run of Chinese characters gives all its pieces of two to four: those that are words come back
    in other items. Hiragana mostly inflects and is left out.
    """
    for part in _parts(phrase):
        if part == "&":
            continue
        if part.isascii() or all(match.lastgroup == "other" for match in _SCRIPT.finditer(part)):
            yield part.removesuffix("'s")
            continue
        for match in _SCRIPT.finditer(part):
            if match.lastgroup == "han":
                for run in _HAN_PARTICLES.split(match[0]):
                    for length, start in itertools.product((2, 3, 4), range(len(run) - 1)):
                        if start + length <= len(run):
                            yield run[start : start + length]
            elif match.lastgroup != "hiragana":
                yield match[0].strip("&'-")


def _text_terms(
    phrases: list[list[str]], telling: Callable[[str], bool], everywhere: set[str]
) -> Iterator[tuple[str, float]]:
    """Words that say something, and pairs of neighbours neither of which is found everywhere."""
    for words in phrases:
        last = ""
        for word in words:
            if not telling(word):
                last = ""
            elif word >= _HAN:
                yield word, _WORD + (_PHRASE - _WORD) * (len(word) - 2)  # whole words before pieces
            else:
                yield word, _WORD
                if (
                    last
                    and last != word
                    and word not in everywhere
                    and len(last) + len(word) < _TERM_CHARACTERS
                ):
                    yield f"{last} {word}", _PHRASE
                last = "" if word in everywhere else word


def _pairs(keywords: list[str], rank: dict[str, int]) -> Iterator[str]:
    """Pairs of an item's frequent keywords, the rarer (more telling) one first."""
    frequent = sorted((keyword for keyword in keywords if keyword in rank), key=rank.__getitem__)
    for common, rare in itertools.combinations(frequent[:_PAIRED_PER_ITEM], 2):
        pair = f"{rare} & {common}"
        if pair.count("&") == 1 and not _alike(common, rare) and len(pair) <= _TERM_CHARACTERS:
            yield pair


def _telling(term: str, stop: frozenset[str]) -> bool:
    """Whether a term may name something: not too long, not all stop words and numbers."""
    if len(term) > _TERM_CHARACTERS or term in stop or (len(term) < 2 and term < _HAN):
        return False
    words = [word for word in term.split(" ") if word != "&"]
    if words[0] in stop or words[-1] in stop:  # "in my queue" says something of an owner
        return False
    return len(words) <= _TERM_WORDS and not all(
        word in stop or _NUMBER.fullmatch(word) or not any(map(str.isalpha, word)) for word in words
    )


def _without_variants(
    terms: list[str], carried: scipy.sparse.csr_array
) -> tuple[list[str], scipy.sparse.csr_array]:
    """Merge plurals with singulars and hyphens with spaces under the most carried spelling."""
    carriers = np.bincount(carried.indices, minlength=len(terms))
    known = set(terms)
    groups: dict[str, list[int]] = {}
    for column, term in enumerate(terms):
        groups.setdefault(_singular(term, known).replace("-", " "), []).append(column)
    merged: list[str] = []
    target = np.zeros(len(terms), np.int64)
    for group in groups.values():
        target[group] = len(merged)
        merged.append(terms[min(group, key=lambda column: (-carriers[column], terms[column]))])
    items, columns = carried.tocoo().coords
    order = np.lexsort((-carried.data, target[columns], items))
    cells = items[order] * len(merged) + target[columns][order]
    _, first = np.unique(cells, return_index=True)  # the heaviest of an item's variants
    kept = order[first]
    result = (carried.data[kept], (items[kept], target[columns][kept]))
    return merged, scipy.sparse.csr_array(result, (carried.shape[0], len(merged)))


def _singular(term: str, known: set[str]) -> str:
    """Return the English singular where that occurs too, else the term."""
    if len(term) > 3 and term.endswith("s") and not term.endswith("ss"):
        for singular in (term[:-1], term[:-2], term[:-3] + "y"):
            if singular in known and (singular != term[:-2] or term.endswith("es")):
                return singular
    return term


@functools.cache
def _stop_languages() -> dict[str, tuple[str, ...]]:
    """Languages in which a word is a stop word."""
    languages: dict[str, list[str]] = {}
    for language in sorted(stopwordsiso.langs()):
        for word in {normalise_keyword(word) for word in stopwordsiso.stopwords(language)}:
            languages.setdefault(word, []).append(language)
    return {word: tuple(found) for word, found in languages.items()}


def _stop_words(phrases: Sequence[list[list[str]]]) -> tuple[frozenset[str], frozenset[str]]:
    """Stop words for texts and for owners' keywords.

    Words of other alphabets hardly mean different things in different languages, so all lists hold.
    In the Latin one they do (German "war" is "was"): there only the languages that occur count, and
    for keywords only those that are common. English always does.
    """
    languages = _stop_languages()
    sample = phrases[:: 1 + len(phrases) // _LANGUAGE_SAMPLE]
    hits = [
        Counter(
            language
            for word in {word for phrase in item for word in phrase}
            for language in languages.get(word, ())
        )
        for item in sample
    ]
    total = Counter[str]()
    for found in hits:
        total.update(found)
    votes = Counter(
        max(found, key=lambda language: (found[language], total[language], language))
        for found in hits
        if found and max(found.values()) >= _LANGUAGE_HITS
    )

    def stop_words(share: float) -> frozenset[str]:
        used = {"en", *(known for known in votes if votes[known] >= share * votes.total())}
        return frozenset(
            word for word, among in languages.items() if not _is_latin(word) or used & set(among)
        )

    return stop_words(_OCCURS), stop_words(_COMMON)


def _is_latin(word: str) -> bool:
    return all(letter < "\u0370" or "\u1e00" <= letter < "\u1f00" for letter in word)


def _scores(
    cluster_ids: np.ndarray,
    cluster_count: int,
    carried: scipy.sparse.csr_array,
    weights: np.ndarray,
    traffic: np.ndarray,
) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray, np.ndarray]:
    """Class-based TF-IDF [clusters, terms] of the share of each cluster that carries each term.

    Also, aligned with the data of the scores: the share itself, a factor below 1 for what describes
    the cluster badly, and whether the term is proper to it (bool).
    """
    present = carried.copy()
    present.data = np.ones_like(carried.data)
    of_cluster = np.bincount(cluster_ids, weights, cluster_count)
    relative = weights / of_cluster[cluster_ids]
    scores = class_tf_idf(_members(cluster_ids, cluster_count, relative) @ carried)
    scores.sort_indices()
    sizes = np.bincount(cluster_ids, minlength=cluster_count)
    share, share_outside = _shares(cluster_ids, cluster_count, present, weights)
    of_items, of_items_outside = _shares(cluster_ids, cluster_count, present, np.ones_like(weights))
    seen = traffic + _UNSEEN * (traffic.sum() / max(1, len(traffic)) or 1.0)
    by_traffic, by_traffic_outside = _shares(cluster_ids, cluster_count, present, seen)
    rows = np.repeat(np.arange(cluster_count), np.diff(scores.indptr))
    counts = (of_items * sizes[rows]).round()
    common = counts >= np.maximum(2, _MIN_SHARE * sizes[rows])
    rarer = (of_items > _LIFT * of_items_outside) & (by_traffic > _LIFT * by_traffic_outside)
    usual = common & (share >= _USUAL_SHARE)
    factors = np.select([common & rarer, usual], [1.0, _USUAL], _WEAK)
    proper = (counts >= _PROPER_ITEMS) & (share > _PROPER_LIFT * share_outside)
    return scores, share, factors, proper


def _members(ids: np.ndarray, count: int, weights: np.ndarray) -> scipy.sparse.csr_array:
    """Weights of the items of each cluster [clusters, items]."""
    items = np.arange(len(ids))
    return scipy.sparse.csr_array((weights, (ids, items)), (count, len(ids)))


def _shares(
    ids: np.ndarray, count: int, present: scipy.sparse.csr_array, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the weight inside and outside a cluster that carry a term.

    For each term that occurs in a cluster, cluster by cluster, by term.
    """
    within = _members(ids, count, weights) @ present
    within.sort_indices()
    of_cluster = np.bincount(ids, weights, count)
    clusters = np.repeat(np.arange(count), np.diff(within.indptr))
    outside = (weights @ present)[within.indices] - within.data
    return (
        within.data / np.maximum(of_cluster[clusters], np.finfo(float).tiny),
        outside / np.maximum((weights.sum() - of_cluster)[clusters], np.finfo(float).tiny),
    )


def _leads(
    scores: scipy.sparse.csr_array,
    worth: np.ndarray,
    terms: list[str],
    first_tokens: Callable[[Sequence[str]], Sequence[Hashable]],
    kept: Mapping[int, Sequence[str]],
) -> list[str]:
    """Give each cluster a term of its own to lead with, and as many as possible a first token.

    A weak term that begins like no other goes before a good one that does not, for every first
    token that clusters share costs more questions about each pair of interests: with 761 clusters
    of MovieLens a matching by worth alone takes 35 questions a pair, this one 1. Clusters that
    find no token take the best terms that are left, no two with the same first word but for pairs.

    Parameters
    ----------
    scores
        [clusters, terms], for its sparsity.
    worth
        Aligned with the data of the scores: of a term as the lead of a cluster.
    kept
        Keywords of clusters that have some, whose leads and first tokens are taken.
    """
    count = scores.shape[0]
    leads_taken = {words[0] for words in kept.values()}
    taken = sorted(leads_taken)
    taken_columns = [column for column, term in enumerate(terms) if term in leads_taken]
    order = np.concatenate(
        [
            low + np.lexsort((scores.indices[low:high], -worth[low:high]))[:_CANDIDATES]
            for low, high in itertools.pairwise(scores.indptr)
        ]
    )
    clusters = np.repeat(np.arange(count), np.diff(scores.indptr))[order]
    open_to_all = ~np.isin(scores.indices[order], taken_columns) & ~np.isin(clusters, list(kept))
    order, clusters = order[open_to_all], clusters[open_to_all]
    values = (worth[order] / worth.max(initial=0)) ** _LEAD_POWER
    columns, candidate_of = np.unique(scores.indices[order], return_inverse=True)
    candidates = [terms[column] for column in columns]
    of_all = [*taken, *candidates]
    tokens = _codes(first_tokens(of_all))
    names = _codes(term if " & " in term else term.split(" ")[0] for term in of_all)
    tokens, taken_tokens = tokens[len(taken) :][candidate_of], tokens[: len(taken)]
    names, taken_names = names[len(taken) :][candidate_of], names[: len(taken)]

    # Without a token of its own, a cluster leads with what is not the best term of any token.
    second_best = np.delete(np.arange(len(order)), _first_of_each(clusters, tokens))
    spare = np.zeros(count)
    np.maximum.at(spare, clusters[second_best], values[second_best])
    own = np.flatnonzero(~np.isin(tokens, taken_tokens))
    first = _matching(clusters[own], tokens[own], values[own], spare)
    chosen = np.full(count, -1)
    chosen[first >= 0] = own[first[first >= 0]]
    used = np.concatenate([names[chosen[chosen >= 0]], taken_names])
    free = np.flatnonzero((chosen < 0)[clusters] & ~np.isin(names, used))
    more = _matching(clusters[free], names[free], values[free], np.zeros(count))
    chosen[more >= 0] = free[more[more >= 0]]
    labels = _labels({*terms, *taken})
    return [candidates[candidate_of[place]] if place >= 0 else next(labels) for place in chosen]


def _codes(keys: Iterable[Hashable]) -> np.ndarray:
    """Number keys in the order in which they first occur: int64."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def _first_of_each(clusters: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return where each pair of a cluster and a code first occurs, sorted by the pair."""
    return np.unique(clusters * (codes.max(initial=0) + 1) + codes, return_index=True)[1]


def _matching(
    clusters: np.ndarray, codes: np.ndarray, values: np.ndarray, spare: np.ndarray
) -> np.ndarray:
    """Give as many clusters as possible a code of their own; of all ways to, the most valuable.

    Parameters
    ----------
    clusters, codes, values
        [candidates] cluster, code (>= 0) and value (0 to 1), the best ones of a cluster first.
    spare
        [clusters] value (0 to 1) of staying without.

    Returns
    -------
    np.ndarray
        [clusters] int64: the candidate of each cluster, -1 for none.
    """
    count, width = len(spare), int(codes.max(initial=-1)) + 1
    best = _first_of_each(clusters, codes)
    # A full matching must exist: behind the codes, each cluster has a column to stay without. All
    # values together weigh less than one more code.
    own = np.arange(count)
    weights = np.concatenate([count + 2 + values[best], 1 + spare])
    rows = np.concatenate([clusters[best], own])
    edges = (rows, np.concatenate([codes[best], width + own]))
    rows, matched = min_weight_full_bipartite_matching(
        scipy.sparse.csr_array((weights, edges), (count, width + count)), maximize=True
    )
    code_of = np.empty(count, np.int64)
    code_of[rows] = matched
    taken = best[codes[best] == code_of[clusters[best]]]
    chosen = np.full(count, -1)
    chosen[clusters[taken]] = taken
    return chosen


def _labels(taken: set[str]) -> Iterator[str]:
    """Yield "unnamed a", ..., "unnamed z", "unnamed aa", ... but for those that are taken."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            label = f"unnamed {''.join(letters)}"
            if label not in taken:
                yield label


def _distinct(lead: str, others: Iterable[str], count: int) -> list[str]:
    """Return the lead and the first others that say something else, `count` in all at most."""
    kept = [lead]
    for term in others:
        if len(kept) == count:
            break
        if not any(_alike(term, other) for other in kept):
            kept.append(term)
    return kept


def _alike(one: str, other: str) -> bool:
    """Whether one of two terms contains the other: words, or from four letters on letters."""
    short, long = sorted((one, other), key=len)
    if short >= _HAN:
        return any(short[i : i + 2] in long for i in range(max(1, len(short) - 1)))
    return (len(short) > 3 and short in long) or set(short.split()) <= set(long.split())
