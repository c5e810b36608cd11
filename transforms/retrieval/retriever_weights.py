"""The trained weights in the folder of the stage, and whether a refresh may use them."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from models.retrieval.retriever_config import RetrieverConfig
from transforms.errors import InputError, as_input_error
from transforms.storage import files
from transforms.transitions.splits import SplitSpec

if TYPE_CHECKING:
    from models.retrieval.trained_weights import TrainedWeights

WEIGHTS, HISTORY = "weights.safetensors", "history.parquet"  # a training makes both


def read_weights(folder: str, config: RetrieverConfig, split: SplitSpec) -> "TrainedWeights":
    """Read the weights in the folder of the stage.

    Raises InputError if they were trained with other settings than `config`, or on what is tested
    on by `split`.
    """
    from models.retrieval.trained_weights import TrainedWeights

    with as_input_error("--refresh: "):
        weights = TrainedWeights.from_bytes(files.read_bytes(files.join(folder, WEIGHTS)))
    then, now = asdict(weights.config), asdict(config)
    if other := [name for name in now if then[name] != now[name]]:
        raise InputError(
            f"--refresh: the weights were trained with other settings ({', '.join(other)}); give "
            "the same flags as then, or train without --refresh"
        )
    if not keeps_apart(SplitSpec(**weights.learned_from), split):
        raise InputError(
            "--refresh: the weights were trained on interactions that are tested on now: the users "
            "or --train_until are split otherwise than then; train without --refresh"
        )
    return weights


def keeps_apart(then: SplitSpec, now: SplitSpec) -> bool:
    """Say whether what was learned from by an earlier split is not tested on by the present one."""
    if then.cut is None or now.cut is None:
        return then == now
    return then.cut <= now.cut
