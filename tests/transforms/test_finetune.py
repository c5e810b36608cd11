"""Examples as the fine-tuning takes them."""

import pyarrow as pa

from transforms import schemas as col
from transforms.finetune import to_examples


def test_the_pair_is_excluded_and_the_novel_cluster_is_the_label() -> None:
    table = pa.table([[4, 2], [1, 2], [3, 0], ["p", "q"], ["x", "y"]], schema=col.EXAMPLES)
    first, second = to_examples(table)
    assert (first.prompt, first.completion, first.excluded, first.label) == ("p", "x", (1, 4), 3)
    assert second.excluded == (2,)
