"""The names of all columns and the Arrow schemas of all tables that pass between pipelines."""

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
ITEM = "item"  # position of the item in the catalogue, which is sorted by id

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
START = "start"  # of the prompts of an older interest
SPLIT = "split"
PROMPT = "prompt"
COMPLETION = "completion"
PROBABILITY = "probability"

# Recommendations.
NOVEL_CLUSTER = "novel_cluster"
ITEM_IDS = "item_ids"
SCORES = "scores"
PROPENSITY = "propensity"  # of the novel cluster: how likely the policy was to choose it

TIME_TYPE = pa.timestamp("us", tz="UTC")

INTERACTIONS = pa.schema(
    {
        USER_ID: pa.string(),
        TIMESTAMP: TIME_TYPE,
        RATING: pa.float32(),
        ITEM: pa.int32(),
    }
)
# What each user engaged with; both lists of a user are of one length.
SEQUENCES = pa.schema(
    {USER_ID: pa.string(), TIMESTAMPS: pa.list_(TIME_TYPE), ITEMS_OF_USER: pa.list_(pa.int32())}
)
# The same in an artefact: the items by their ids.
USER_SEQUENCES = pa.schema(
    {
        USER_ID: pa.string(),
        ITEM_IDS: pa.list_(pa.string()),
        TIMESTAMPS: pa.list_(TIME_TYPE),
    }
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
# Finest clusters before and after; null where it is gone, or new.
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
# How often a cluster was taken up after another, by training users before the cut; those between
# them discount it.
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
# What a worker keeps of a row it can't use: the JSON line of the dead letter, and why.
DEAD_ROWS = pa.schema({"line": pa.string(), "reason": pa.string()})
