"""Names of policies in metrics.json."""

TABLE, PRIOR = "novelty_table", "novelty_table_prior"
POOLED = "novelty_table_pooled"  # the table, pooled over all recent pairs
OURS = (TABLE, PRIOR, POOLED)
RETRIEVER, RETRIEVER_NOVEL = "retriever", "retriever_novel"
AFFINITY = "affinity"  # FollowLift, the training target of the language model's output head
AFFINITY_POOLED = "affinity_pooled"  # the same, pooled over all recent pairs
# These only count what users did: an LLM must be better to be of use.
COUNT_BASELINES = ("popularity", "markov_1", "markov_2", "naive_bayes", "pair_counts")
COUNT_POLICIES = (*COUNT_BASELINES, "cluster_neighbours", AFFINITY)
