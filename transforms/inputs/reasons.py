"""Why a row of the input is in the dead letter, and what would make it usable."""

MALFORMED_LINE = "the line has another number of fields than the header"
OPEN_QUOTE = "a quoted value does not end within its line"
NOT_JSON = "the line is not a JSON object"
NUL_BYTE = "an id has a NUL byte"
NOT_UTF8 = "a text is not UTF-8"
NO_USER = "user_id is missing"
ANONYMOUS = "user_id is one of --anonymous_users"
NO_ITEM = "item_id is missing"
INEXACT_ID = "an id is a floating-point number too large to be exact"
NO_TIME = "timestamp is missing"
BAD_TIME = "timestamp is neither a time in ISO 8601 nor a number"
FUTURE = "timestamp lies in the future"
BAD_RATING = "rating is not a finite number"
NO_RATING = "rating is missing, and --min_rating needs it"
NO_METADATA = "the item is not among the items that have a cluster"
NO_TEXT = "the item has no title, keywords or text to embed"
NO_EMBEDDING = "embedding is missing, though the items have a column of embeddings"
BAD_EMBEDDING = "embedding holds other than finite numbers"
BAD_ELIGIBLE = "eligible is neither true nor false"
DUPLICATE_ITEM = "item_id occurs more than once; another row of it is used"

_NAME_COLUMN = "--interaction_columns and --item_columns name the columns to use"
CURES = {
    MALFORMED_LINE: "see whether --delimiter is right",
    OPEN_QUOTE: "give --newlines_in_values if values hold newlines",
    NOT_JSON: "write one object a line, as `jq -c '.[]'` does",
    NUL_BYTE: "give --encoding=utf-16 if the file is UTF-16",
    NOT_UTF8: "give --encoding, such as --encoding=latin-1",
    NO_USER: _NAME_COLUMN,
    ANONYMOUS: "correct --anonymous_users",
    NO_ITEM: _NAME_COLUMN,
    INEXACT_ID: "write ids as integers or texts",
    NO_TIME: _NAME_COLUMN,
    BAD_TIME: "give --timestamp_format, such as --timestamp_format='%m/%d/%Y %I:%M:%S %p'",
    FUTURE: "give --timestamp_unit if these are not seconds",
    BAD_RATING: "write numbers such as 3.5, or name the right column in --interaction_columns",
    NO_RATING: "leave --min_rating out",
    NO_METADATA: "give --items that hold the items of the log, with ids of the same form",
    NO_TEXT: "name columns with text in --item_columns",
    NO_EMBEDDING: "leave the column embedding out: --text_encoder embeds the texts",
    BAD_EMBEDDING: "leave the column embedding out: --text_encoder embeds the texts",
    BAD_ELIGIBLE: "write true or false, or leave the column out",
    DUPLICATE_ITEM: "give each item once",
}
