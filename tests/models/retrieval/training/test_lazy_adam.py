"""Adam for embeddings, against that of Keras."""

import numpy as np

from models.retrieval.retriever import tf
from models.retrieval.training.lazy_adam import LazyAdam

GRADIENTS = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
RATE = 0.1


def after(optimizer: tf.keras.optimizers.Optimizer, gradients: list) -> np.ndarray:
    variable = tf.Variable(tf.ones([4, 3]))
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(gradient, variable)])
    return variable.numpy()


def slices(gradient: np.ndarray, rows: list[int]) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(gradient[: len(rows)]), tf.constant(rows), [4, 3])


def test_dense_gradients_are_applied_as_by_keras() -> None:
    gradients = list(map(tf.constant, GRADIENTS))
    expected = after(tf.keras.optimizers.Adam(RATE), gradients)
    np.testing.assert_allclose(after(LazyAdam(RATE), gradients), expected, rtol=1e-5)


def test_rows_that_each_step_uses_move_as_by_keras() -> None:
    gradients = [slices(gradient, [3, 1, 0, 2]) for gradient in GRADIENTS]
    expected = after(tf.keras.optimizers.Adam(RATE), gradients)
    np.testing.assert_allclose(after(LazyAdam(RATE), gradients), expected, rtol=1e-5)


def test_a_row_that_a_step_does_not_use_stays() -> None:
    once = after(LazyAdam(RATE), [slices(GRADIENTS[0], [0, 1, 2, 3])])
    then = [slices(gradient, [2]) for gradient in GRADIENTS[1:]]
    found = after(LazyAdam(RATE), [slices(GRADIENTS[0], [0, 1, 2, 3]), *then])
    np.testing.assert_array_equal(found[[0, 1, 3]], once[[0, 1, 3]])
    assert np.all(found[2] != once[2])


def test_the_slices_of_a_row_are_summed() -> None:
    twice = [slices(GRADIENTS[0], [2, 2])]
    summed = [slices(GRADIENTS[0][:2].sum(axis=0, keepdims=True), [2])]
    np.testing.assert_allclose(after(LazyAdam(RATE), twice), after(LazyAdam(RATE), summed))
