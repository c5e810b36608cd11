"""How the user says that an input is written."""

from dataclasses import dataclass

import pyarrow as pa

from transforms import schemas as col

# Columns of a raw table that are none of the input.
POSITION = "__position"  # of a row in its input; tells the first of two duplicates
MALFORMED = (
    "__malformed"  # text of a line that is no row; the table then has no column of the input
)
REASON = "__reason"  # why the line is none
OWN_COLUMNS = (POSITION, MALFORMED, REASON)

COLUMNS = {
    "interactions": (col.USER_ID, col.ITEM_ID, col.TIMESTAMP, col.RATING),
    "items": (col.ITEM_ID, col.TITLE, col.KEYWORDS, col.TEXT, col.EMBEDDING, col.ELIGIBLE),
}


@dataclass(frozen=True)
class InputFormat:
    """What the flags say of an input. Texts are about text files: delimited or JSON lines."""

    columns: tuple[tuple[str, str], ...] = ()  # (our name, name in the input) where they differ
    header: tuple[str, ...] = ()  # names of the columns of a delimited file without a header line
    delimiter: str = ""  # of delimited files that have it in the first line; "": recognised
    encoding: str = "utf-8"
    newlines_in_values: bool = False  # quoted values of delimited files may go over lines
    timestamp_unit: str | None = None  # of numbers; None: recognised by magnitude
    timestamp_format: str | None = None  # of texts, as of datetime.strptime; None: ISO 8601
    anonymous_users: tuple[str, ...] = ()  # ids that stand for no user

    def name_of(self, column: str) -> str:
        """Return the name that one of our columns has in the input."""
        return dict(self.columns).get(column, column)

    def select(self, raw: pa.Table, columns: tuple[str, ...]) -> pa.Table:
        """Return those of our columns that a raw table has, by our names, and the POSITION."""
        names = {column: self.name_of(column) for column in columns} | {POSITION: POSITION}
        return pa.table(
            {ours: raw[name] for ours, name in names.items() if name in raw.column_names}
        )


STANDARD = InputFormat()
