"""Adam for embeddings: a step touches the rows that it has used, and no others."""

from models.retrieval.retriever import tf


class LazyAdam(tf.keras.optimizers.Adam):
    """Keras' Adam, but the moments of a row do not decay while no step uses it.

    Keras decays all rows in each step, so a step costs the more, the more items there are. This is
    the LazyAdam of TensorFlow Addons, which is no longer maintained.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Apply a gradient; the optimizer has summed the slices of a repeated row before."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        rows, values = gradient.indices, gradient.values
        step = tf.cast(self.iterations + 1, values.dtype)
        correction = tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        number = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[number], self._velocities[number]
        momentum = tf.gather(first, rows) * self.beta_1 + values * (1 - self.beta_1)
        velocity = tf.gather(second, rows) * self.beta_2 + values**2 * (1 - self.beta_2)
        change = self.learning_rate * correction * momentum / (tf.sqrt(velocity) + self.epsilon)
        first.scatter_update(tf.IndexedSlices(momentum, rows))
        second.scatter_update(tf.IndexedSlices(velocity, rows))
        variable.scatter_sub(tf.IndexedSlices(change, rows))
