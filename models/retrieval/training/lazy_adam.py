"""Adam for embeddings: a step touches the rows that it has used, and no others."""

from models.retrieval.retriever import tf


class LazyAdam(tf.keras.optimizers.Adam):
    """Keras' Adam, but the moments of a row do not decay while no step uses it.

    Keras decays all rows in each step, so a step costs the more, the more items there are. This is
    the LazyAdam of TensorFlow Addons, which is no longer maintained. A dense gradient is one
    operation here, where Keras has twenty, which take longer to compile than to run.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Apply a gradient; the optimizer has summed the slices of a repeated row before."""
        number = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[number], self._velocities[number]
        step = tf.cast(self.iterations + 1, tf.float32)
        powers = self.beta_1**step, self.beta_2**step
        if not isinstance(gradient, tf.IndexedSlices):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=self.learning_rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )
            return
        rows, values = gradient.indices, gradient.values
        correction = tf.sqrt(1 - powers[1]) / (1 - powers[0])
        momentum = tf.gather(first, rows) * self.beta_1 + values * (1 - self.beta_1)
        velocity = tf.gather(second, rows) * self.beta_2 + values**2 * (1 - self.beta_2)
        change = self.learning_rate * correction * momentum / (tf.sqrt(velocity) + self.epsilon)
        first.scatter_update(tf.IndexedSlices(momentum, rows))
        second.scatter_update(tf.IndexedSlices(velocity, rows))
        variable.scatter_sub(tf.IndexedSlices(change, rows))
