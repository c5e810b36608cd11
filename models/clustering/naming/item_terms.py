"""Terms of items: keywords, keyword pairs ("horror & comedy"), words and word pairs of texts."""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.sparse
import stopwordsiso

_TEXT_CHARACTERS = 1_000  # the topic is at the beginning of a text; the rest costs time
_TERM_CHARACTERS = 40
_TERM_WORDS = 4
_PAIRED_KEYWORDS = 100  # the most frequent ones; a pair of rare ones describes nothing
_PAIRED_PER_ITEM = 8

# Weights of an occurrence: owners choose keywords to describe the item.
_KEYWORD, _PAIR, _WORD, _PHRASE = 1.0, 0.9, 0.4, 0.44

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
_LATIN = re.compile("[\0-\u036f\u1e00-\u1eff]*")
_HAN_PARTICLES = re.compile("[的了是在与及]")
# Invisible letters and marks: fillers, joiners, variation selectors.
_INVISIBLE = {
    0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10),
    0xFFA0, *range(0xE0100, 0xE01F0),
}  # fmt: skip


class _Fold(dict[int, str | None]):
    """Table for `str.translate`: ends of phrases become line feeds, other non-words spaces."""

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


def normalise_keyword(text: str) -> str:
    """Fold a keyword to lower-case words: letters, marks, digits, inner ``- ' &``, single spaces.

    In NFKC, without markup, punctuation, control characters and emoji. May return "".

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
    return " ".join(kept).removesuffix(" &")


def item_terms(
    keywords: Sequence[Sequence[str]], texts: Sequence[str]
) -> tuple[list[str], scipy.sparse.csr_array]:
    """Return the terms, and the weight of each item's occurrence of them [n, terms] float64."""
    phrases = [_phrases(text) for text in texts]
    stop, owner_stop = _stop_words(phrases)
    informative = functools.cache(lambda word: _informative(word, stop))
    word_carriers = Counter(word for item in phrases for word in set(itertools.chain(*item)))
    everywhere = {word for word, n in word_carriers.items() if n > max(3, len(texts) / 4)}
    known = {keyword: normalise_keyword(keyword) for mine in keywords for keyword in mine}
    usable = {keyword for keyword in known.values() if _informative(keyword, owner_stop)}
    owned = [
        list(dict.fromkeys(known[one] for one in mine if known[one] in usable)) for mine in keywords
    ]
    carriers = Counter(keyword for mine in owned for keyword in mine)
    ranked = sorted(carriers, key=lambda keyword: (-carriers[keyword], keyword))
    rank = {keyword: place for place, keyword in enumerate(ranked[:_PAIRED_KEYWORDS])}

    columns: dict[str, int] = {}
    indices: list[int] = []
    data: list[float] = []
    indptr = [0]
    for mine, words in zip(owned, phrases, strict=True):
        values = dict(_text_terms(words, informative, everywhere))
        values.update((pair, _PAIR) for pair in _pairs(mine, rank))
        values.update((keyword, _KEYWORD) for keyword in mine)
        indices.extend(columns.setdefault(term, len(columns)) for term in values)
        data.extend(values.values())
        indptr.append(len(indices))
    carried = scipy.sparse.csr_array((data, indices, indptr), shape=(len(texts), len(columns)))
    return _without_variants(list(columns), carried)


def terms_overlap(one: str, other: str) -> bool:
    """Tell whether one term contains the other: as words, or as letters if four or more."""
    short, long = sorted((one, other), key=len)
    if short >= _HAN:
        return any(short[i : i + 2] in long for i in range(max(1, len(short) - 1)))
    return (len(short) > 3 and short in long) or set(short.split()) <= set(long.split())


def _fold(text: str) -> str:
    """Return the text in NFKC and lower case, with only words, spaces and line feeds."""
    folded = unicodedata.normalize("NFKC", _TAG.sub("\n", text)).lower().translate(_FOLD)
    return unicodedata.normalize("NFKC", folded)


def _parts(folded: str) -> list[str]:
    """Return the words and lone "&" of a folded phrase, without marks that have no letter."""
    parts = []
    for part in _PART.findall(folded):
        start = next((i for i, character in enumerate(part) if character.isalnum()), len(part))
        if part == "&" or start < len(part):
            parts.append(part[start:] if part != "&" else part)
    return parts


def _phrases(text: str) -> list[list[str]]:
    """Return the words of a text, phrase by phrase."""
    text = text.strip()
    if len(text) > _TEXT_CHARACTERS:
        text = text[:_TEXT_CHARACTERS].rsplit(None, 1)[0]  # no half word at the end
    folded = _fold(text)
    return [list(_segments(phrase)) for phrase in folded.split("\n") if phrase.strip()]


def _segments(phrase: str) -> Iterator[str]:
    """Yield the words of a phrase; Chinese and Japanese, without spaces, by script.

    A run of Chinese characters gives all its pieces of two to four characters: real words occur in
    other items too. Hiragana, mostly inflections, is left out.
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
    phrases: list[list[str]], informative: Callable[[str], bool], everywhere: set[str]
) -> Iterator[tuple[str, float]]:
    """Yield informative words with weights, and pairs of neighbours that are not everywhere."""
    for words in phrases:
        last = ""
        for word in words:
            if not informative(word):
                last = ""
            elif word >= _HAN:
                yield word, _WORD + (_PHRASE - _WORD) * (len(word) - 2)  # whole words before pieces
            else:
                yield word, _WORD
                rare = word not in everywhere
                if last and last != word and rare and len(last) + len(word) < _TERM_CHARACTERS:
                    yield f"{last} {word}", _PHRASE
                last = word if rare else ""


def _pairs(keywords: list[str], rank: dict[str, int]) -> Iterator[str]:
    """Yield pairs of an item's frequent keywords, the rarer (more specific) one first."""
    frequent = sorted((keyword for keyword in keywords if keyword in rank), key=rank.__getitem__)
    for common, rare in itertools.combinations(frequent[:_PAIRED_PER_ITEM], 2):
        pair = f"{rare} & {common}"
        usable = pair.count("&") == 1 and len(pair) <= _TERM_CHARACTERS
        if usable and not terms_overlap(common, rare):
            yield pair


def _informative(term: str, stop: frozenset[str]) -> bool:
    """Tell whether a term may describe a cluster: not too long, not all stop words and numbers."""
    if len(term) > _TERM_CHARACTERS or term in stop or (len(term) < 2 and term < _HAN):
        return False
    words = [word for word in term.split(" ") if word != "&"]
    if words[0] in stop or words[-1] in stop:  # "in my queue" is about an owner
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
    """Return the languages in which each stop word is one."""
    languages: dict[str, list[str]] = {}
    for language in sorted(stopwordsiso.langs()):
        for word in {normalise_keyword(word) for word in stopwordsiso.stopwords(language)}:
            languages.setdefault(word, []).append(language)
    return {word: tuple(found) for word, found in languages.items()}


def _stop_words(phrases: Sequence[list[list[str]]]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the stop words for texts and for owners' keywords.

    A Latin stop word can be a different word in another language (German "war" is "was"): these
    lists hold for languages that occur in the texts, and for keywords only if they are common;
    English always. The lists of other alphabets always hold.
    """
    languages = _stop_languages()
    sample = phrases[:: 1 + len(phrases) // _LANGUAGE_SAMPLE]
    hits = [
        Counter(itertools.chain(*(languages.get(word, ()) for word in set(itertools.chain(*item)))))
        for item in sample
    ]
    total = sum(hits, Counter[str]())
    votes = Counter(
        max(found, key=lambda language: (found[language], total[language], language))
        for found in hits
        if found and max(found.values()) >= _LANGUAGE_HITS
    )

    def stop_words(share: float) -> frozenset[str]:
        used = {"en", *(known for known in votes if votes[known] >= share * votes.total())}
        return frozenset(
            word
            for word, among in languages.items()
            if used & set(among) or not _LATIN.fullmatch(word)
        )

    return stop_words(_OCCURS), stop_words(_COMMON)
