"""The tensors of a model's folder: one safetensors file, or several with an index of the file of every tensor.

A model is replaced in steps: a kill after any of them leaves the old model, the new one, or a folder that no reader
takes for a model. The module knows no architecture.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from experiments.files import read_object

__all__ = ["CONFIG", "few", "files", "open_file", "replace", "sync"]

CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
_PART = re.compile(rf"\.({re.escape(CONFIG)}|{re.escape(_INDEX)}|model-[0-9]{{5}}\.safetensors)\.part")
_FILE_BYTES = 5 * 10**9  # the size of a file that the hub advises


def files(folder: Path, *, optional: Sequence[str] = ()) -> dict[str, Path]:
    """The file of every tensor of a folder.

    An index decides, also about a tensor that several files hold.

    Args:
        folder: The model's folder.
        optional: Ends of the names of tensors that the index need not name.

    Raises:
        FileNotFoundError: If there are no such files, or one that the index names is missing.
        ValueError: If a file is damaged, the index disagrees with the files, or there are two models or an adapter.
    """
    index, single = folder / _INDEX, folder / _SINGLE
    if (folder / _ADAPTER).exists():
        raise ValueError(
            f"{folder} must hold no {_ADAPTER}: it changes the weights. Merge the adapter into them first."
        )
    if not index.is_file():
        if not single.is_file():
            raise FileNotFoundError(f"{folder} must hold {_SINGLE}, or {_INDEX} and files.")
        return dict.fromkeys(_names(single), single)
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index}: weight_map must give the file of every tensor.")
    paths = {name: folder / file for name, file in places.items()}
    if single.is_file() and set(paths.values()) != {single}:
        if any(path.is_file() for path in paths.values()):
            raise ValueError(
                f"{folder} must hold {_SINGLE} or {_INDEX}, not both: nothing says which of them is the model. "
                "Remove the older one."
            )
        return dict.fromkeys(_names(single), single)  # transformers leaves the index of the shards that it removes
    if missing := sorted({path.name for path in paths.values() if not path.is_file()}):
        raise FileNotFoundError(f"{folder} must hold the files that {index.name} names; missing: {missing}.")
    names = {path: _names(path) for path in set(paths.values())}
    if absent := sorted(name for name, path in paths.items() if name not in names[path]):
        raise ValueError(f"{index}: names tensors that no file holds: {few(absent)}, or not the file that it names.")
    unnamed = {name for several in names.values() for name in several} - paths.keys()
    if unnamed := sorted(name for name in unnamed if not name.endswith(tuple(optional))):
        raise ValueError(f"{index}: weight_map must name every tensor of the files; it lacks {few(unnamed)}.")
    return paths


def _names(path: Path) -> frozenset[str]:
    with open_file(path) as file:
        return frozenset(file.keys())


def open_file(path: Path) -> safe_open:
    """A safetensors file, open for reading parts of its tensors.

    Raises:
        ValueError: If the file is not a safetensors file, or damaged.
    """
    try:
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}.") from None


def few(names: Sequence[str]) -> str:
    """The first four names, and the number of the others."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def replace(folder: Path, config: Mapping[str, object], tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes a model in place of the model of the folder, in any layout.

    The old model stays until the new one is written beside it. Then config.json is removed as the first file and comes
    back as the last: between the two no reader finds a model in the folder. Other files of the folder stay.

    Args:
        folder: The folder; it is created where it does not exist.
        config: The content of config.json.
        tensors: Names and values; the memory holds those of one file at a time.

    Raises:
        OSError: If a file cannot be written. Until config.json is removed, the old model is unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove(folder, _PART)  # of a killed process
    try:
        _write_json(_part(folder, CONFIG), config)
        mode = _part(folder, CONFIG).stat().st_mode  # the library writes files that only their owner reads
        names = [
            _write_tensors(_part(folder, f"model-{number:05}.safetensors"), group, mode)
            for number, group in enumerate(_groups(tensors), start=1)
        ]
        count = len(names)
        shards = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        shards = shards if count > 1 else [_SINGLE]
        targets = {f"model-{number:05}.safetensors": shard for number, shard in enumerate(shards, start=1)}
        if count > 1:
            places = {name: shard for sizes, shard in zip(names, shards, strict=True) for name in sizes}
            size = sum(num_bytes for sizes in names for num_bytes in sizes.values())
            _write_json(_part(folder, _INDEX), {"metadata": {"total_size": size}, "weight_map": places})
            targets[_INDEX] = _INDEX
        sync(folder)
        (folder / CONFIG).unlink(missing_ok=True)
        sync(folder)
        _remove(folder, _SHARD)
        for name in (_SINGLE, _INDEX):
            (folder / name).unlink(missing_ok=True)
        for name, target in targets.items():
            _part(folder, name).replace(folder / target)
        sync(folder)
        _part(folder, CONFIG).replace(folder / CONFIG)
        sync(folder)
    except BaseException:
        _remove(folder, _PART)
        raise


def _part(folder: Path, name: str) -> Path:
    """The path of a file until it is written whole."""
    return folder / f".{name}.part"


def _remove(folder: Path, pattern: re.Pattern[str]) -> None:
    for path in sorted(folder.iterdir()):
        if pattern.fullmatch(path.name):
            path.unlink()


def _groups(tensors: Iterable[tuple[str, np.ndarray]]) -> Iterable[dict[str, np.ndarray]]:
    """The tensors of each file; there is at least one file."""
    group: dict[str, np.ndarray] = {}
    num_bytes = 0
    for name, value in tensors:
        if group and num_bytes + value.nbytes > _FILE_BYTES:
            yield group
            group, num_bytes = {}, 0
        group[name] = np.ascontiguousarray(value)  # safetensors writes wrong values of other orders
        num_bytes += value.nbytes
    yield group


def _write_tensors(path: Path, tensors: dict[str, np.ndarray], mode: int) -> dict[str, int]:
    """Writes a safetensors file; returns the bytes of every tensor."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)
    sync(path)
    return {name: value.nbytes for name, value in tensors.items()}


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the names of a folder's files."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
