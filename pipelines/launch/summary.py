"""The summary of a finished workspace that explore prints."""

import json
import textwrap

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import read_descriptions
from transforms.storage import files
from transforms.storage.stage_files import read_parts

_USERS = 5
_ITEMS = 5
_SENTENCES = 3  # of the report


def summary(workspace: Workspace) -> str:
    """Return sizes, what fine-tuning changed, and the novel items of some users, unnamed."""
    manifests = {
        stage: workspace.manifest(stage)
        for stage in ("clusters", "transitions", "novelty_table", "recommendations")
    }
    level = manifests["recommendations"]["level"]
    descriptions = read_descriptions(workspace.folder("clusters"), level)
    folder = workspace.folder
    counts = read_parts(folder("transitions"), "counts", col.TRANSITION_COUNTS)
    train = read_parts(folder("transitions"), "examples/train", col.EXAMPLES)
    history = files.read_parquet(folder("language_model", "history.parquet"), col.FINETUNE_HISTORY)
    retrieval = files.read_parquet(folder("retrieval", "history.parquet"), col.RETRIEVAL_HISTORY)
    recommended = read_parts(folder("recommendations"), "", col.RECOMMENDATIONS)
    items = read_parts(folder("clusters"), "catalogue", col.CATALOGUE)
    report = json.loads(files.read_bytes(workspace.folder("report", "metrics.json")))
    size = len(descriptions)
    before, kept = history.to_pylist()[0], history.to_pylist()[-1]
    ranks = _best(retrieval, "NDCG@10")
    lines = [
        "",
        f"{manifests['transitions']['rows']['used']:,} interactions with {items.num_rows:,} items "
        f"in {size} interest clusters",
        f"{pc.sum(counts[col.USERS]).as_py() or 0:,} transitions of training users; "
        f"{train.num_rows:,} training examples",
        f"match rate {before['match_rate']:.0%} before fine-tuning, {kept['match_rate']:.0%} after "
        f"({max(0, kept['step'] - 1)} steps); recall@10 {before['recall_at_10']:.0%} -> "
        f"{kept['recall_at_10']:.0%}",
        f"novelty table: {size:,} x {size:,} = {manifests['novelty_table']['rows']['written']:,} "
        "pairs",
        f"retriever: HR@10 {ranks['HR@10']:.3f}, NDCG@10 {ranks['NDCG@10']:.3f}",
        f"{recommended.num_rows:,} of {manifests['recommendations']['figures']['users']:,} users "
        "have a novel interest and items of it; "
        f"{len(pc.unique(recommended[col.NOVEL_CLUSTER]))} of {size} clusters are recommended "
        "(the others know all that the table has for them)",
        "",
        *_examples(recommended, descriptions, items),
        *report["summary"][:_SENTENCES],
        f"the report is {workspace.folder('report', 'index.html')}",
        f"everything is in {workspace.root}",
    ]
    return "\n".join(lines)


def _best(history: pa.Table, column: str) -> dict[str, float]:
    """Return the row whose weights were kept: the highest in a column, or the last without any."""
    finite = history.filter(pc.is_finite(history[column]))
    if not finite.num_rows:
        return history.to_pylist()[-1]
    return finite.slice(pc.index(finite[column], pc.max(finite[column])).as_py(), 1).to_pylist()[0]


def _examples(recommended: pa.Table, descriptions: list[str], items: pa.Table) -> list[str]:
    """Return a few users of different novel interests, whose probability is about the median."""
    probability = recommended[col.PROBABILITY]
    far = pc.abs(pc.subtract(probability, pc.quantile(probability, 0.5)[0]))
    order = [("far", "ascending"), (col.USER_ID, "ascending")]
    lines: list[str] = []
    seen: set[int] = set()
    for row in recommended.append_column("far", far).sort_by(order).to_pylist():
        if row[col.NOVEL_CLUSTER] in seen or len(seen) == _USERS:
            continue
        seen.add(row[col.NOVEL_CLUSTER])
        titles = _titles(items, row[col.ITEM_IDS][:_ITEMS])
        c1, c2, novel = (descriptions[row[name]] for name in (col.C1, col.C2, col.NOVEL_CLUSTER))
        known = f"({c2})" if c1 == c2 else f"({c1}) then ({c2})"
        lines.append(f"a user knows {known}")
        lines.append(f"  -> new: ({novel}), probability {row[col.PROBABILITY]:.2f}")
        lines.append("  -> " + textwrap.shorten("; ".join(titles), 400, placeholder=" ..."))
        lines.append("")
    return lines


def _titles(items: pa.Table, item_ids: list[str]) -> list[str]:
    at = pc.index_in(pa.array(item_ids, pa.string()), value_set=items[col.ITEM_ID].combine_chunks())
    titles = items[col.TITLE].take(at).to_pylist()
    return [title or item for title, item in zip(titles, item_ids, strict=True)]
