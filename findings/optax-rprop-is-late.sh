#!/usr/bin/env bash
# Optax 0.2.8 with JAX 0.10.2: Rprop's update is the one that the step before has found.
#
# One would guess: the first update is minus the learning rate times the sign of the gradient, as in the paper and in
# torch.optim.Rprop, and every update follows the gradient that it is given.
# Seen: the first update is zero, and from then on each is what the gradient before gives: where the gradient changes its
# sign at the third step, the update still has the old sign there.
#
# Output seen:
#   gradient 1.0 update 0.0
#   gradient 1.0 update -0.1
#   gradient -1.0 update 0.0
#   gradient -1.0 update 0.0
#   gradient -1.0 update 0.06
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 numpy==2.4.6
"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import jax.numpy as jnp
import optax

optimizer = optax.rprop(0.1)
params = jnp.array(0.0)
state = optimizer.init(params)
for gradient in (1.0, 1.0, -1.0, -1.0, -1.0):
    updates, state = optimizer.update(jnp.array(gradient), state, params)
    print("gradient", gradient, "update", round(float(updates), 4) + 0.0)
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
