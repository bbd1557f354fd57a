"""Rows of Parquet files, some at a time, with errors of one line. Knows no layout; needs pyarrow, which is optional."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["count", "rows", "types"]

_ROWS = 256  # of a batch: about a megabyte of text
# Bytes of a column that are read at once. Without a buffer, and with pre_buffer beside it, pyarrow holds a row group
# whole: 134 MB of 138, and with both 11 (26.0.1).
_BUFFER = 2**20
_READABLE = re.compile("(dictionary<values=)?(large_)?(string|list|fixed_size_list)")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:  # of an optional package without types
    try:
        from pyarrow import ArrowException, parquet  # pyright: ignore[reportMissingImports]  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} needs pyarrow, which is not installed. Run: python -m pip install pyarrow"
        ) from error
    try:
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except FileNotFoundError:
        raise
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a Parquet file that can be read: {str(error).splitlines()[0]}") from None


def count(path: Path) -> int:
    """The number of rows.

    Raises:
        ValueError: If the file cannot be read.
    """
    with _opened(path) as file:
        return file.metadata.num_rows


def types(path: Path) -> dict[str, str | None]:
    """The columns, each with the name of its type where it holds neither texts nor lists, and else None.

    Raises:
        ValueError: If the file cannot be read, or has two columns of one name.
    """
    with _opened(path) as file:
        fields = list(file.schema_arrow)
    kinds = {field.name: str(field.type) for field in fields}
    if len(kinds) < len(fields):
        names = Counter(field.name for field in fields)
        raise ValueError(f"{path} must have one column of each name; it has several {names.most_common(1)[0][0]}.")
    return {name: None if _READABLE.match(kind) else kind for name, kind in kinds.items()}


def rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """The rows, with these columns alone; memory holds a part of a row group at a time.

    Raises:
        ValueError: If the file cannot be read.
    """
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns)):
            yield from batch.to_pylist()
