"""The names of all columns and the Arrow schemas of all tables that pass between pipelines."""

from dataclasses import dataclass

import pyarrow as pa

# Interactions and items.
USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
RATING = "rating"
TITLE = "title"
KEYWORDS = "keywords"
TEXT = "text"
EMBEDDING = "embedding"
ELIGIBLE = "eligible"
TRAFFIC = "traffic"
TIMESTAMPS = "timestamps"
ITEMS_OF_USER = "items"  # positions in the catalogue
ITEM = "item"  # position in the catalogue, which is sorted by item_id

# Clusters.
LEVEL = "level"
CLUSTER_ID = "cluster_id"
CLUSTER_IDS = "cluster_ids"
FEATURES = "features"
PARENT_ID = "parent_id"
DESCRIPTION = "description"
ITEM_COUNT = "item_count"
OLD_ID = "old_id"
NEW_ID = "new_id"

# Transitions: (c1, c2) -> novel.
C1 = "c1"
C2 = "c2"
NOVEL = "novel"
USERS = "users"
KNOWN = "known"
RECENT = "recent"
WEIGHT = "weight"
START = "start"  # of a prompt
SPLIT = "split"
PROMPT = "prompt"
COMPLETION = "completion"
PROBABILITY = "probability"

# Recommendations.
NOVEL_CLUSTER = "novel_cluster"
ITEM_IDS = "item_ids"
SCORES = "scores"
PROPENSITY = "propensity"  # with which the policy chose the novel cluster

TIME_TYPE = pa.timestamp("us", tz="UTC")

DATASET_INTERACTIONS = pa.schema(
    {
        USER_ID: pa.string(),
        ITEM_ID: pa.string(),
        TIMESTAMP: pa.timestamp("s", tz="UTC"),
        RATING: pa.float32(),
    }
)
DATASET_ITEMS = pa.schema({ITEM_ID: pa.string(), TITLE: pa.string(), KEYWORDS: pa.string()})
INTERACTIONS = pa.schema(
    {
        USER_ID: pa.string(),
        TIMESTAMP: TIME_TYPE,
        RATING: pa.float32(),
        ITEM: pa.int32(),
    }
)
# The engagements of each user in order; the lists of a user have the same length.
SEQUENCES = pa.schema(
    {USER_ID: pa.string(), TIMESTAMPS: pa.list_(TIME_TYPE), ITEMS_OF_USER: pa.list_(pa.int32())}
)
# SEQUENCES with item ids.
USER_SEQUENCES = pa.schema(
    {USER_ID: pa.string(), ITEM_IDS: pa.list_(pa.string()), TIMESTAMPS: pa.list_(TIME_TYPE)}
)
ITEMS = pa.schema(
    {
        ITEM_ID: pa.string(),
        TITLE: pa.string(),
        KEYWORDS: pa.list_(pa.string()),
        TEXT: pa.string(),
        EMBEDDING: pa.list_(pa.float32()),
        ELIGIBLE: pa.bool_(),
    }
)
CLUSTERS = pa.schema(
    {
        LEVEL: pa.int32(),
        CLUSTER_ID: pa.int32(),
        PARENT_ID: pa.int32(),
        DESCRIPTION: pa.string(),
        KEYWORDS: pa.list_(pa.string()),
        ITEM_COUNT: pa.int64(),
        TRAFFIC: pa.float64(),
    }
)
CLUSTER_MAPPING = pa.schema({OLD_ID: pa.int32(), NEW_ID: pa.int32()})
ITEM_CLUSTERS = pa.schema({ITEM_ID: pa.string(), CLUSTER_IDS: pa.list_(pa.int32())})
ITEM_FEATURES = pa.schema({ITEM_ID: pa.string(), FEATURES: pa.list_(pa.float32())})
CATALOGUE = pa.schema({ITEM_ID: pa.string(), TITLE: pa.string(), ELIGIBLE: pa.bool_()})
TRANSITIONS = pa.schema(
    {
        USER_ID: pa.string(),
        C1: pa.int32(),
        C2: pa.int32(),
        NOVEL: pa.int32(),
        TIMESTAMP: TIME_TYPE,  # of the first engagement with the novel cluster
    }
)
TRANSITION_COUNTS = pa.schema(
    {C1: pa.int32(), C2: pa.int32(), NOVEL: pa.int32(), USERS: pa.int64()}
)
AFFINITY = pa.schema({KNOWN: pa.int32(), NOVEL: pa.int32(), WEIGHT: pa.float64()})
USER_SPLITS = pa.schema({USER_ID: pa.string(), SPLIT: pa.string()})
PROMPT_STARTS = pa.schema({CLUSTER_ID: pa.int32(), START: pa.string()})
EXAMPLES = pa.schema(
    {
        C1: pa.int32(),
        C2: pa.int32(),
        NOVEL: pa.int32(),
        PROMPT: pa.string(),
        COMPLETION: pa.string(),
    }
)
FINETUNE_HISTORY = pa.schema(
    {
        "step": pa.int64(),
        "loss": pa.float64(),
        "valid_loss": pa.float64(),
        "match_rate": pa.float64(),
        "recall_at_1": pa.float64(),
        "recall_at_10": pa.float64(),
    }
)
NOVELTY_TABLE = pa.schema(
    {
        C1: pa.int32(),
        C2: pa.int32(),
        NOVEL: pa.list_(pa.int32()),
        PROBABILITY: pa.list_(pa.float32()),
    }
)
RETRIEVAL_HISTORY = pa.schema(
    {"epoch": pa.int64(), "loss": pa.float64(), "HR@10": pa.float64(), "NDCG@10": pa.float64()}
)
RECOMMENDATIONS = pa.schema(
    {
        USER_ID: pa.string(),
        NOVEL_CLUSTER: pa.int32(),
        C1: pa.int32(),
        C2: pa.int32(),
        PROBABILITY: pa.float32(),
        ITEM_IDS: pa.list_(pa.string()),
        SCORES: pa.list_(pa.float32()),
        PROPENSITY: pa.float32(),
    }
)
# An invalid row of the input: its line of the dead letter, and the reason.
DEAD_ROWS = pa.schema({"line": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class Artefact:
    """A table of the workspace, as docs/data.md describes it."""

    description: str
    schema: pa.Schema
    columns: dict[str, str]  # column -> meaning and unit


# Columns that mean the same in every artefact.
_MEANINGS = {
    USER_ID: "user",
    ITEM_ID: "item",
    TIMESTAMP: "when the user engaged with the item, in UTC",
    TITLE: "title of the item",
    CLUSTER_ID: "cluster, 0 to M-1 within its level",
    C1: "second latest cluster that the user engaged with; equal to c2 if there was only one",
    C2: "latest cluster that the user engaged with",
    NOVEL: "cluster that the user engages with for the first time",
}


def _artefact(description: str, schema: pa.Schema, /, **columns: str) -> Artefact:
    meanings = _MEANINGS | columns
    return Artefact(description, schema, {name: meanings[name] for name in schema.names})


# Path in the workspace -> the artefact.
ARTEFACTS = {
    "input/interactions.parquet": _artefact(
        "Interactions of a built-in dataset.",
        DATASET_INTERACTIONS,
        rating="rating that the user gave",
    ),
    "input/items.parquet": _artefact(
        "Items of a built-in dataset.",
        DATASET_ITEMS,
        keywords="keywords of the item, separated by commas",
    ),
    "clusters/clusters.parquet": _artefact(
        "The clusters of all levels, sorted by level and cluster_id.",
        CLUSTERS,
        level="level of the cluster tree; 0 is the coarsest",
        parent_id="cluster_id of the parent at the next coarser level; null at level 0",
        description="keywords joined by commas; unique within the level",
        keywords="keywords of the cluster, most characteristic first",
        item_count="items in the cluster",
        traffic="engagements with items of the cluster, before --train_until if it is given",
    ),
    "clusters/item_clusters/*.parquet": _artefact(
        "The clusters of each item, in shards by item_id, sorted by item_id within a file.",
        ITEM_CLUSTERS,
        cluster_ids="cluster_id at each level, coarsest first",
    ),
    "clusters/item_features/*.parquet": _artefact(
        "The projected text embedding of each item, in shards by item_id.",
        ITEM_FEATURES,
        features="principal components of the item's embedding, scaled to a mean variance of 1",
    ),
    "clusters/catalogue/*.parquet": _artefact(
        "All items, in shards by item_id, sorted by item_id within a file.",
        CATALOGUE,
        eligible="false if the item must not be recommended",
    ),
    "clusters/mapping.parquet": _artefact(
        "Finest clusters of --previous_workspace and the clusters that continue them.",
        CLUSTER_MAPPING,
        old_id="cluster_id in the previous workspace; null for a new cluster",
        new_id="cluster_id in this workspace; null for a cluster that is gone",
    ),
    "transitions/sequences/*.parquet": _artefact(
        "The engagements of each user in order, in shards by user_id, sorted by user_id in a file.",
        USER_SEQUENCES,
        item_ids="items that the user engaged with, oldest first",
        timestamps="when the user engaged with each item, in UTC",
    ),
    "transitions/counts/*.parquet": _artefact(
        "How many training users made each transition (before --train_until, if it is given).",
        TRANSITION_COUNTS,
        users="number of training users with this transition, at least 1",
    ),
    "transitions/affinity.parquet": _artefact(
        "How often training users took up one cluster after another, sorted by known and novel. "
        "Pairs that never occur have no row.",
        AFFINITY,
        known="cluster that came first",
        novel="cluster that was taken up later",
        weight="sum over users of 0.7 to the power of the number of clusters taken up in between",
    ),
    "transitions/splits/*.parquet": _artefact(
        "The split of each user, in shards by user_id, sorted by user_id within a file.",
        USER_SPLITS,
        split="train, valid or test",
    ),
    "transitions/prompt_starts.parquet": _artefact(
        "The beginning of the prompts of each c1.",
        PROMPT_STARTS,
        cluster_id="c1 of the prompts",
        start="text of the prompts up to the description of c2",
    ),
    **{
        f"transitions/examples/{split}/*.parquet": _artefact(
            f"Prompts and completions of the transitions of {split} users{which}.",
            EXAMPLES,
            novel="novel cluster, the training label",
            prompt="text that the language model is given",
            completion="description of the novel cluster",
        )
        for split, which in (
            ("train", ", diversified: at most --examples_per_cluster pairs of each novel cluster"),
            ("valid", ""),
            ("test", ""),
        )
    },
    "language_model/history.parquet": _artefact(
        "The progress of fine-tuning, one row for each logged step; NaN is not measured.",
        FINETUNE_HISTORY,
        step="optimizer steps done; 0 is before training, the last row is of the saved weights",
        loss="mean training loss since the last row, in nats per completion token",
        valid_loss="mean loss on the valid examples, in nats per completion token",
        match_rate="share of free generations that equal a description exactly",
        recall_at_1="share of valid examples whose novel cluster is ranked first",
        recall_at_10="share of valid examples whose novel cluster is among the first 10",
    ),
    "novelty_table/*.parquet": _artefact(
        "The likely next clusters of each of the M x M pairs, sorted by c1 and c2 within a file.",
        NOVELTY_TABLE,
        novel="candidates, most probable first: neither c1, c2 nor blocked clusters",
        probability="probability of each candidate; sums to 1 over all allowed clusters",
    ),
    "retrieval/history.parquet": _artefact(
        "The progress of the retriever's training, one row for each epoch.",
        RETRIEVAL_HISTORY,
        epoch="passes over the data done",
        loss="mean training loss of the epoch",
        **{
            "HR@10": "share of validation users whose held-out item is among the first 10; NaN "
            "without validation users",
            "NDCG@10": "mean of 1 / log2(1 + rank) of these items, 0 beyond rank 10; NaN likewise",
        },
    ),
    "recommendations/*.parquet": _artefact(
        "Recommendations for each user with a novel cluster, sorted by user_id within a file.",
        RECOMMENDATIONS,
        novel_cluster="cluster of the recommended items, new to the user",
        c1="first cluster of the pair that was looked up",
        c2="second cluster of the pair that was looked up",
        probability="probability of the novel cluster in the novelty table",
        item_ids="recommended items, best first",
        scores="score of each recommended item; comparable for one user only",
        propensity="probability with which the policy chooses this novel cluster for the user",
    ),
}
