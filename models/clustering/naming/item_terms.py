"""Terms of items: keywords, pairs of these ("horror & comedy"), words and word pairs of texts."""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.sparse
import stopwordsiso

_TEXT_CHARACTERS = 1_000  # a text says early what it is about; the rest costs time
_TERM_CHARACTERS = 40
_TERM_WORDS = 4
_PAIRED_KEYWORDS = 100  # the most frequent ones; a pair of rare ones names nothing
_PAIRED_PER_ITEM = 8

# What an occurrence counts: an owner's keyword was put there to say what the item is about.
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


def item_terms(
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


def alike(one: str, other: str) -> bool:
    """Whether one of two terms contains the other: words, or from four letters on letters."""
    short, long = sorted((one, other), key=len)
    if short >= _HAN:
        return any(short[i : i + 2] in long for i in range(max(1, len(short) - 1)))
    return (len(short) > 3 and short in long) or set(short.split()) <= set(long.split())


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
        if pair.count("&") == 1 and not alike(common, rare) and len(pair) <= _TERM_CHARACTERS:
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
