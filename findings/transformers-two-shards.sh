#!/usr/bin/env bash
# transformers 5.24.0 (torch 2.14.0): of a tensor that lies in two shards, the one that is loaded is not the one that the
# index names.
#
# One would guess: weight_map of model.safetensors.index.json says which file holds a tensor, and a copy of it in another
# shard is not read. Such copies are left by merges and by tools that write tied weights twice.
# Seen: every tensor of every shard is read, the last file wins, and nothing is said.
#
# Output seen:
#   the index names the first shard, which holds 1; loaded 9
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/model" >"$folder/seen" 2>/dev/null <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

where = Path(sys.argv[1])
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )
)
with torch.no_grad():
    model.model.norm.weight.fill_(1.0)
model.save_pretrained(where, max_shard_size="20KB")
index_file = where / "model.safetensors.index.json"
index = json.loads(index_file.read_text())
shards = sorted(set(index["weight_map"].values()))
tensors = {name: load_file(where / name) for name in shards}
norm = "model.norm.weight"
value = tensors[index["weight_map"][norm]].pop(norm)
tensors[shards[0]][norm], tensors[shards[-1]][norm] = value, 9 * torch.ones_like(value)
for name in shards:
    save_file(tensors[name], where / name, metadata={"format": "pt"})
index["weight_map"][norm] = shards[0]
index_file.write_text(json.dumps(index))
loaded = LlamaForCausalLM.from_pretrained(where).model.norm.weight[0]
print("the index names the first shard, which holds 1; loaded", int(loaded))
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
