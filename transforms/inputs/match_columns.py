"""Which columns of an input are those that are needed, and what to say where one is missing."""

import difflib
import re

from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs.input_format import COLUMNS, InputFormat

# Flag of the input -> how its flags on columns and on the header line begin.
PREFIXES = {"interactions": "interaction", "items": "item"}
# What public logs call our columns, in letters alone.
_OTHER_NAMES = {
    col.USER_ID: (
        "user",
        "uid",
        "visitor",
        "visitorid",
        "customer",
        "customerid",
        "reviewerid",
        "member",
        "memberid",
        "session",
        "sessionid",
        "account",
        "accountid",
        "client",
    ),
    col.ITEM_ID: (
        "item",
        "iid",
        "movieid",
        "productid",
        "product",
        "asin",
        "parentasin",
        "sku",
        "articleid",
        "article",
        "trackid",
        "songid",
        "bookid",
        "isbn",
        "videoid",
        "newsid",
        "id",
    ),
    col.TIMESTAMP: (
        "ts",
        "time",
        "date",
        "datetime",
        "unixtime",
        "unixreviewtime",
        "createdat",
        "eventtime",
        "timestampms",
        "tstamp",
        "tdat",
    ),
    col.RATING: ("score", "stars", "overall", "rate"),
    col.TITLE: ("name", "productname", "prodname", "headline", "itemname"),
}


def parse_columns(text: str, name: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs (our name, name in the input) of a text like user_id=visitorid,item_id=asin.

    Raises InputError if a pair is malformed or names none of the columns of the input.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    found = tuple((ours.strip(), theirs.strip()) for ours, _, theirs in pairs)
    ours_first = COLUMNS[name][0]
    for ours, theirs in found:
        if ours not in COLUMNS[name] or not theirs:
            raise InputError(
                f"--{PREFIXES[name]}_columns={text}: {ours!r} is none of "
                f"{', '.join(COLUMNS[name])}; give pairs like {ours_first}=their_name, separated "
                "by commas"
            )
    return found


def require_columns(
    where: str,
    name: str,
    columns: list[str],
    required: list[str],
    written: InputFormat,
    hint: str = "",
) -> None:
    """Raise InputError for missing columns, with the flag that names the likeliest ones."""
    lacking = [column for column in required if written.name_of(column) not in columns]
    if not lacking:
        return
    flag = f"--{PREFIXES[name]}"
    pairs = ",".join(f"{column}={_likeliest(column, columns) or '...'}" for column in lacking)
    cure = f"give {flag}_columns={pairs}"
    if len(columns) == 1:
        cure = "give --delimiter if another character separates its columns"
    elif any(re.fullmatch(r"[\d.:/ -]+", column) for column in columns):
        cure = f"without a header line, name its columns in {flag}_header"
    missing = ", ".join(repr(written.name_of(column)) for column in lacking)
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    raise InputError(f"{where} has no column {missing}; it has: {shown}; {cure}{hint}")


def _likeliest(column: str, columns: list[str]) -> str | None:
    """Return the column that is most likely meant by one of ours."""
    letters = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(columns)}
    for other in (re.sub(r"[^a-z]", "", column), *_OTHER_NAMES.get(column, ())):
        if other in letters:
            return letters[other]
    close = difflib.get_close_matches(re.sub(r"[^a-z]", "", column), letters, 1)
    return letters[close[0]] if close else None
