"""A SavedModel for those who have no TensorFlow in their process."""

import numpy as np
import tensorflow as tf


class SavedModel:
    """The signatures of a SavedModel, over NumPy arrays.

    Parameters
    ----------
    path
        Its folder.
    """

    def __init__(self, path: str) -> None:
        self._model = tf.saved_model.load(path)  # its variables live as long as it is held

    def answer(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature.

        Parameters
        ----------
        signature
            Its name.
        inputs
            By name. Strings are arrays of objects, given as text and returned as bytes.
        """
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._model.signatures[signature](**tensors)
        return {name: output.numpy() for name, output in outputs.items()}
