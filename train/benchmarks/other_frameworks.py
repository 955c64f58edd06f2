"""The same work in JAX and PyTorch.

It is written as one would there: coordinates first, the framework's own
compiler and loop. Each function returns a function without arguments that does
the work once and waits for it, or raises ImportError where the framework is
missing.
"""

import functools
import math

import numpy as np

UNITS = 20


def jax_update(n):
    """Returns one update of `n` coordinates, state donated, in JAX."""
    import jax

    meta_params = _jax_meta_params()
    update = jax.jit(_jax_step, donate_argnums=2)
    gradient = jax.random.normal(jax.random.key(0), (n,))
    state = [jax.numpy.zeros((n, UNITS)) for _ in range(4)]

    def run():
        nonlocal state
        result, state = update(meta_params, gradient, state)
        jax.block_until_ready((result, state))

    return run


def torch_update(n, compiled):
    """Returns one update of `n` coordinates in PyTorch, eager or compiled."""
    import torch

    cells = [torch.nn.LSTMCell(size, UNITS) for size in (2, UNITS)]
    output = torch.nn.Linear(UNITS, 1)
    gradient = torch.randn(n)
    state = [(torch.zeros(n, UNITS), torch.zeros(n, UNITS)) for _ in range(2)]

    def update(gradient, state):
        magnitude = gradient.abs().clamp(min=math.exp(-10))
        sign = (math.exp(10) * gradient).clamp(-1, 1)
        hidden = torch.stack([magnitude.log() / 10, sign], -1)
        new_state = []
        for cell, memory in zip(cells, state, strict=True):
            hidden, cell_state = cell(hidden, memory)
            new_state.append((hidden, cell_state))
        return 0.1 * output(hidden)[:, 0], new_state

    if compiled:
        update = torch.compile(update)

    def run():
        nonlocal state
        with torch.no_grad():
            _, state = update(gradient, state)

    return run


def jax_meta_step(layer_sizes, batch_size, unroll_length, checkpointed):
    """Returns one truncated-backprop meta-gradient of an MLP in JAX.

    With `checkpointed` the LSTM is computed again for the meta-gradient.
    """
    import jax
    from jax import flatten_util
    from jax import numpy as jnp

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((5000, layer_sizes[0])), "float32")
    y = jnp.asarray(rng.integers(0, layer_sizes[-1], 5000))
    sizes = list(zip(layer_sizes[:-1], layer_sizes[1:], strict=True))
    params = [
        (jnp.asarray(rng.normal(size=s) * 0.1, "float32"), jnp.zeros(s[1]))
        for s in sizes
    ]
    flat, unravel = flatten_util.ravel_pytree(params)

    def loss(flat, key):
        chosen = jax.random.randint(key, (batch_size,), 0, len(x))
        hidden = x[chosen]
        *inner, (kernel, bias) = unravel(flat)
        for weights, offset in inner:
            hidden = jax.nn.sigmoid(hidden @ weights + offset)
        logits = jax.nn.log_softmax(hidden @ kernel + bias)
        return -logits[jnp.arange(batch_size), y[chosen]].mean()

    step = jax.checkpoint(_jax_step) if checkpointed else _jax_step

    def meta_loss(meta_params, flat, state, key):
        def inner_step(carry, key):
            flat, state = carry
            value, gradient = jax.value_and_grad(loss)(flat, key)
            gradient = jax.lax.stop_gradient(gradient)
            update, state = step(meta_params, gradient, state)
            return (flat + update, state), value

        keys = jax.random.split(key, unroll_length)
        carry, losses = jax.lax.scan(inner_step, (flat, state), keys)
        return losses.sum(), carry

    meta_step = jax.jit(jax.grad(meta_loss, has_aux=True))
    meta_params = _jax_meta_params()
    carry = flat, [jnp.zeros((flat.size, UNITS)) for _ in range(4)]
    return lambda: jax.block_until_ready(
        meta_step(meta_params, *carry, jax.random.key(0))
    )


def _jax_meta_params():
    from jax import numpy as jnp

    rng = np.random.default_rng(0)
    shapes = [(2, 80), (20, 80), (80,), (20, 80), (20, 80), (80,), (20,), ()]
    return [jnp.asarray(rng.normal(size=s) * 0.1, "float32") for s in shapes]


def _jax_step(meta_params, gradient, state):
    import jax
    from jax import numpy as jnp

    magnitude = jnp.maximum(jnp.abs(gradient), math.exp(-10))
    sign = jnp.clip(math.exp(10) * gradient, -1, 1)
    outputs = jnp.stack([jnp.log(magnitude) / 10, sign], -1)
    new_state = []
    for layer in range(2):
        kernel, recurrent_kernel, bias = meta_params[3 * layer :][:3]
        hidden, cell = state[2 * layer :][:2]
        gates = outputs @ kernel + hidden @ recurrent_kernel + bias
        i, f, c, o = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(c)
        outputs = jax.nn.sigmoid(o) * jnp.tanh(cell)
        new_state += [outputs, cell]
    return 0.1 * (outputs @ meta_params[6] + meta_params[7]), new_state


UPDATES = {
    "jax jit": jax_update,
    "torch eager": functools.partial(torch_update, compiled=False),
    "torch.compile": functools.partial(torch_update, compiled=True),
}
