#!/usr/bin/env bash
# transformers 5.24.0 (torch 2.14.0): a model that is saved in shards over one that was saved as a single file is not
# the one that is loaded.
#
# One would guess: save_pretrained replaces what the folder holds, as it does where the number of shards changes.
# Seen: the old model.safetensors stays beside the new shards and their index, and from_pretrained prefers it, without a
# word. The other way round the old index stays, and the new single file is loaded.
#
# Output seen:
#   saved 1, then 2 in shards; loaded 1
#   saved 1 in shards, then 2; loaded 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" >"$folder/seen" 2>/dev/null <<'PYTHON'
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2,
)


def model(value):
    made = LlamaForCausalLM(config)
    with torch.no_grad():
        made.model.norm.weight.fill_(value)
    return made


def loaded(where):
    return int(LlamaForCausalLM.from_pretrained(where).model.norm.weight[0])


first = Path(sys.argv[1]) / "first"
model(1.0).save_pretrained(first)
model(2.0).save_pretrained(first, max_shard_size="20KB")
print("saved 1, then 2 in shards; loaded", loaded(first))
second = Path(sys.argv[1]) / "second"
model(1.0).save_pretrained(second, max_shard_size="20KB")
model(2.0).save_pretrained(second)
print("saved 1 in shards, then 2; loaded", loaded(second))
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
