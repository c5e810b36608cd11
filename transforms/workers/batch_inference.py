"""RunInference over elements that are batches. Import it late: Beam imports torch with it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler, RunInference

__all__ = ["BatchHandler", "RunInference"]


class BatchHandler(ModelHandler):
    """Loads a model once per worker, and maps each element to `infer(model, element)`."""

    def __init__(self, load: Callable[[], Any], infer: Callable[[Any, Any], Any]) -> None:
        super().__init__(max_batch_size=1)
        self._load, self._infer = load, infer

    def load_model(self) -> Any:
        return self._load()

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Any]:
        return [self._infer(model, element) for element in batch]
