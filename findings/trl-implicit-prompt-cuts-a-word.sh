#!/usr/bin/env bash
# TRL 1.16.0: the implicit prompt of two texts ends wherever they differ, also within a word, and may take a letter less.
#
# One would guess: of preference data without a prompt, the prompt is the common beginning of both texts, and each answer
# is whole words.
# Seen: 42 and 41 share their first digit with the prompt, so that the model learns to continue "4"; where one text is the
# beginning of the other, the prompt is one letter shorter than what they share, in the middle of the word. And a prompt
# that is given as a text is not used where the answers are messages: it is extracted from these.
#
# Output seen:
#   'Q: 6*7? A: 4' + '2' or '1'
#   'Q: ready? A: ye' + 's' or 's, sir'
#   [('user', '6*7?')] + [('assistant', '42')] or [('assistant', '41')]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
# Without PyTorch, which these functions do not need.
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    trl==1.16.0 transformers==5.24.0 accelerate==1.15.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    datasets==5.2.0 tokenizers==0.23.3 safetensors==0.8.0 regex==2026.11.19 jinja2==3.1.6 numpy==2.4.6 typer==0.29.2 psutil==7.2.2 \
    2>"$folder/complaints" || { cat "$folder/complaints"; exit 1; }
"$folder/venv/bin/python" - >"$folder/seen" 2>"$folder/notices" <<'PYTHON' || { cat "$folder/notices"; exit 1; }
from trl.data_utils import maybe_extract_prompt


def plain(value):
    return value if isinstance(value, str) else [(message["role"], message["content"]) for message in value]


def show(row):
    row = maybe_extract_prompt(row)
    print(f"{plain(row['prompt'])!r} + {plain(row['chosen'])!r} or {plain(row['rejected'])!r}")


asked = {"role": "user", "content": "6*7?"}
good, bad = ({"role": "assistant", "content": text} for text in ("42", "41"))
show({"chosen": "Q: 6*7? A: 42", "rejected": "Q: 6*7? A: 41"})
show({"chosen": "Q: ready? A: yes", "rejected": "Q: ready? A: yes, sir"})
show({"prompt": "another text", "chosen": [asked, good], "rejected": [asked, bad]})
PYTHON
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
