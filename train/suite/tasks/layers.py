"""Layers that several models of the suite share."""

import keras
from keras import layers
from keras import ops

# Of integers and logits.
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Positions(layers.Layer):
    """Adds a learned vector to each position of a sequence."""

    def build(self, shape):
        self.table = layers.Embedding(shape[1], shape[2])
        self.table.build((shape[1],))

    def call(self, x):
        return x + self.table(ops.arange(x.shape[1]))


def transformer_block(x, heads, dropout=0.0, causal=False):
    """Returns the output of attention and an MLP, normalized before each."""
    width = x.shape[-1]
    attended = layers.MultiHeadAttention(
        heads, width // heads, dropout=dropout
    )(*[layers.LayerNormalization()(x)] * 2, use_causal_mask=causal)
    x = x + layers.Dropout(dropout)(attended)
    hidden = layers.Dense(2 * width, activation="gelu")(
        layers.LayerNormalization()(x)
    )
    return x + layers.Dropout(dropout)(layers.Dense(width)(hidden))
