#!/usr/bin/env bash
# transformers 5.24.0: the logits of a text whose positions have a gap depend on `use_cache`.
#
# One would guess: `use_cache` only says whether keys and values are returned; the logits are the same.
# Seen: without an attention mask and without the cache, a step of more than one in `position_ids` begins a new text, as in
# packed batches: tokens behind it do not see those before it. With the cache, or with a mask of ones, they do.
#
# Output seen:
#   positions 0 1 2 10 11 12, logits with and without the cache differ by more than 0.001: True
#   without the cache the tokens behind the gap are a text of their own: True
#   with a mask of ones both are the same: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.14.1 numpy==2.4.6 \
    2>"$folder/complaints" || { cat "$folder/complaints"; exit 1; }
"$folder/venv/bin/python" - >"$folder/seen" 2>"$folder/notices" <<'PYTHON' || { cat "$folder/notices"; exit 1; }
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
)).eval()
tokens, places = torch.arange(6)[None], torch.tensor([[0, 1, 2, 10, 11, 12]])


def logits(use_cache, tokens=tokens, places=places, **more):
    with torch.no_grad():
        return model(tokens, position_ids=places, use_cache=use_cache, **more).logits


def differ(a, b):
    return float((a - b).abs().max())


with_cache, without = logits(True), logits(False)
print(f"positions 0 1 2 10 11 12, logits with and without the cache differ by more than 0.001: {differ(with_cache, without) > 1e-3}")
rest = logits(True, tokens[:, 3:], places[:, 3:])
print(f"without the cache the tokens behind the gap are a text of their own: {differ(without[:, 3:], rest) < 1e-5}")
ones = torch.ones_like(tokens)
masked = differ(logits(True, attention_mask=ones), logits(False, attention_mask=ones))
print(f"with a mask of ones both are the same: {masked < 1e-5}")
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
