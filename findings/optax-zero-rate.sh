#!/usr/bin/env bash
# Optax 0.2.8 with JAX 0.10.2: a learning rate of zero does not leave the parameters alone.
#
# One would guess: with learning_rate=0.0 an optimizer makes no update, so that a warm-up may begin at zero, and an
# expansion in the rate begins at the parameters.
# Seen: MADGRAD moves them, since it adds its eps to the rate inside the step (as the original does) and divides by the
# cube root of what that adds up to; D-Adaptation makes NaN, since it divides by what the rate has made zero. SGD, Adam
# and Lion move nothing, as one would guess.
#
# Output seen:
#   sgd 0
#   adam 0
#   lion 0
#   madgrad 4e-05
#   dadapt_adamw nan
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 numpy==2.4.6
"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import jax.numpy as jnp
import optax

for make in [optax.sgd, optax.adam, optax.lion, optax.contrib.madgrad, optax.contrib.dadapt_adamw]:
    optimizer = make(0.0)
    params = jnp.array([1.0])
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(jnp.array([0.5]), state, params)
        params = optax.apply_updates(params, updates)
    print(make.__name__, f"{abs(float(params[0]) - 1):.1g}")
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
