#!/usr/bin/env bash
# JAX 0.10.2 (and 0.12.0.1) with 64-bit numbers on: the square root of an int32 is float32, and so Optax 0.2.8 makes
# updates of float64 parameters that are right to seven digits only.
#
# One would guess: with jax_enable_x64 an integer becomes a float64 where a floating-point number is needed, as in NumPy,
# and an optimizer that is given float64 parameters and gradients computes in float64.
# Seen: jnp.sqrt of an int32 array, which is what a step counter is, is float32. MADGRAD weighs step k by sqrt(k + 1),
# computed so: its second update of one parameter is off by 1e-8 from the same formula in float64, and its dtype is
# float64 all the same.
#
# Output seen:
#   numpy float64
#   jax float32
#   the dtype of the update float64
#   the update is off by more than 1e-10: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 numpy==2.4.6
"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import optax

print("numpy", np.sqrt(np.array([2], np.int32)).dtype)
print("jax", jnp.sqrt(jnp.array([2], jnp.int32)).dtype)

rate, eps, momentum, start = 0.1, 1e-6, 0.9, 1.0
gradients = [0.37, -0.11]
optimizer = optax.contrib.madgrad(rate, momentum=momentum, eps=eps)
params = jnp.array([start])
state = optimizer.init(params)
for gradient in gradients:
    updates, state = optimizer.update(jnp.array([gradient]), state, params)
    params = optax.apply_updates(params, updates)

exact, squares, total = start, 0.0, 0.0  # MADGRAD as it is published, in Python's float64
for k, gradient in enumerate(gradients):
    weight = (rate + eps) * (k + 1) ** 0.5
    squares += weight * gradient**2
    total += weight * gradient
    exact = (1 - momentum) * (start - total / (squares ** (1 / 3) + eps)) + momentum * exact
print("the dtype of the update", updates.dtype)
print("the update is off by more than 1e-10:", abs(float(params[0]) - exact) > 1e-10)
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
