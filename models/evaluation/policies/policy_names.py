"""Names of policies in metrics.json."""

from models.interests.alignment import ABLATIONS

TABLE, PRIOR = "novelty_table", "novelty_table_prior"
POOLED = "novelty_table_pooled"  # the table, pooled over all recent pairs
ALIGNED, *_ABLATED = ABLATIONS  # the table, the retriever and popularity; and without one each
OURS = (ALIGNED, TABLE, PRIOR, POOLED, *_ABLATED)
ALIGNED_WITHOUT_TABLE = "aligned_without_table"
RETRIEVER, RETRIEVER_NOVEL = "retriever", "retriever_novel"
AFFINITY = "affinity"  # FollowLift, the training target of the language model's output head
AFFINITY_POOLED = "affinity_pooled"  # the same, pooled over all recent pairs
# These only count what users did: an LLM must be better to be of use.
COUNT_BASELINES = ("popularity", "markov_1", "markov_2", "naive_bayes", "pair_counts")
COUNT_POLICIES = (*COUNT_BASELINES, "cluster_neighbours", AFFINITY)
