"""A SavedModel for a process that must not import TensorFlow itself."""

import numpy as np
import tensorflow as tf

from models.retrieval.serving.allowed_operations import check_operations


class SavedModel:
    """Calls the signatures of the SavedModel in a folder with NumPy arrays."""

    def __init__(self, path: str) -> None:
        check_operations(path)
        self._model = tf.saved_model.load(path)  # its variables live as long as this reference

    def answer(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature. Strings are arrays of objects: str as inputs, bytes as outputs."""
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._model.signatures[signature](**tensors)
        return {name: output.numpy() for name, output in outputs.items()}
