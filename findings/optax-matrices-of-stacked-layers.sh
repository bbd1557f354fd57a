#!/usr/bin/env bash
# Optax 0.2.8: rules for matrices take the layers of a model that are stacked in one array for something else, in silence.
#
# One would guess: for parameters whose layers lie along the first axis of one array, as models under jax.lax.scan have
# them, Muon orthogonalises the matrix of each layer and Adafactor factors each, or they refuse the array.
# Seen: Muon gives every array of three axes to Adam; Adafactor factors over the two longest axes, so that with more
# layers than rows it averages over layers. Neither says so.
#
# Output seen:
#   muon, one matrix (3, 3): has a momentum of muon: True, of adam: False
#   muon, two layers (2, 3, 3): has a momentum of muon: False, of adam: True
#   adafactor, layers (400, 300, 200): statistics (300, 200) and (400, 200)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8 \
    2>"$folder/complaints" || { cat "$folder/complaints"; exit 1; }
"$folder/venv/bin/python" - >"$folder/seen" 2>"$folder/notices" <<'PYTHON' || { cat "$folder/notices"; exit 1; }
import jax
import jax.numpy as jnp
import optax

for name, shape in (("one matrix", (3, 3)), ("two layers", (2, 3, 3))):
    state = optax.contrib.muon(1.0).init({"w": jnp.ones(shape)})
    held = {key: any(leaf.shape == shape for leaf in jax.tree.leaves(inner)) for key, inner in state.inner_states.items()}
    print(f"muon, {name} {shape}: has a momentum of muon: {held['muon']}, of adam: {held['adam']}")
state = optax.adafactor(1.0).init({"w": jnp.ones((400, 300, 200))})
(factored,) = [part for part in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "v_row")) if hasattr(part, "v_row")]
print(f"adafactor, layers (400, 300, 200): statistics {factored.v_row['w'].shape} and {factored.v_col['w'].shape}")
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
