#!/usr/bin/env bash
# pyarrow 26.0.1: a file of Parquet that is read with a buffer of one mebibyte still holds a whole row group in memory.
#
# One would guess: `buffer_size` of ParquetFile makes reading stream through a buffer of that size.
# Seen: `pre_buffer`, which is on by default, fetches all of a row group's column first; only with pre_buffer=False does
# the buffer have its size.
#
# Output seen:
#   a file of 64 MiB and more in one row group, read in batches of 256 rows with buffer_size=2**20
#   the most memory is more than half of the file: True
#   with pre_buffer=False it is less than an eighth: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6 \
    2>"$folder/complaints" || { cat "$folder/complaints"; exit 1; }
cat >"$folder/read.py" <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.parquet as pq

options = {"pre_buffer": False} if sys.argv[2] == "off" else {}
for _ in pq.ParquetFile(sys.argv[1], buffer_size=2**20, **options).iter_batches(256):
    pass
print(pa.default_memory_pool().max_memory())
PYTHON
"$folder/venv/bin/python" - "$folder/data.parquet" <<'PYTHON'
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

rng = np.random.default_rng(0)
texts = [rng.bytes(1024).hex() for _ in range(64 * 1024)]
table = pa.table({"chosen": texts})
pq.write_table(table, sys.argv[1], row_group_size=len(texts), compression="none", use_dictionary=False)
PYTHON
size=$(stat -c %s "$folder/data.parquet")
default=$("$folder/venv/bin/python" "$folder/read.py" "$folder/data.parquet" on)
off=$("$folder/venv/bin/python" "$folder/read.py" "$folder/data.parquet" off)
echo "the file has $size bytes; the most memory is $default, and $off with pre_buffer=False" >&2
{
    [ "$size" -ge $((64 * 1024 * 1024)) ] &&
        echo "a file of 64 MiB and more in one row group, read in batches of 256 rows with buffer_size=2**20"
    echo "the most memory is more than half of the file: $([ $((2 * default)) -gt "$size" ] && echo True || echo False)"
    echo "with pre_buffer=False it is less than an eighth: $([ $((8 * off)) -lt "$size" ] && echo True || echo False)"
} >"$folder/seen"
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
