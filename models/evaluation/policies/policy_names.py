"""Names of policies, as metrics.json has them."""

TABLE, PRIOR = "novelty_table", "novelty_table_prior"
POOLED = "novelty_table_pooled"  # the table asked about all recent pairs
OURS = (TABLE, PRIOR, POOLED)
RETRIEVER, RETRIEVER_NOVEL = "retriever", "retriever_novel"
AFFINITY = "affinity"  # what the language model's head was fitted to
AFFINITY_POOLED = "affinity_pooled"  # that asked about all recent pairs
# Those that only count what users did: what an LLM has to be better than.
COUNT_BASELINES = ("popularity", "markov_1", "markov_2", "naive_bayes", "pair_counts")
COUNT_POLICIES = (*COUNT_BASELINES, "cluster_neighbours", AFFINITY)
