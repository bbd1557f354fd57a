"""Checkpoints of a run: whole or not there at all, every byte under a hash, over any number of devices and processes.

A checkpoint is a folder named by a number of eight digits. `manifest.json` names its files with size and SHA-256,
`manifest.sha256` covers the manifest, `about.json` is the caller's, and the safetensors files hold every leaf under its
key path. Nothing here knows what the leaves mean or when to save.

What stands beside the checkpoints is hidden. `.<name>.part` is half written or half removed, and worth nothing.
`.<8 digits>.old` is a checkpoint while another takes its place: it counts for as long as there is no other.
"""

import hashlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from experiments.model.tensor_files import sync

__all__ = ["DamagedError", "Loaded", "load", "newest", "numbers", "prune", "save"]

_FILE_BYTES = 5 * 10**9  # as large as the hub advises a file to be
_NUM_DIGITS = 8
_VISIBLE = re.compile(rf"([0-9]{{{_NUM_DIGITS}}})|\.([0-9]{{{_NUM_DIGITS}}})\.old")
_PART = re.compile(rf"\.[0-9]{{{_NUM_DIGITS}}}(\.old)?\.part")
_MANIFEST, _SEAL, _ABOUT = "manifest.json", "manifest.sha256", "about.json"
_CODES: dict[np.dtype, str] = {
    np.dtype(kind): code
    for kind, code in {
        np.float64: "F64", np.float32: "F32", np.float16: "F16", jnp.bfloat16: "BF16", np.bool_: "BOOL",
        np.int64: "I64", np.int32: "I32", np.int16: "I16", np.int8: "I8",
        np.uint64: "U64", np.uint32: "U32", np.uint16: "U16", np.uint8: "U8",
    }.items()
}  # fmt: skip
"""The names of types in safetensors."""


class DamagedError(ValueError):
    """A checkpoint is not what was written; the message names it, the file and what is wrong."""


class Loaded(NamedTuple):
    """A whole checkpoint.

    Attributes:
        number: The number of the checkpoint.
        tree: The arrays.
        about: The JSON values beside them.
        damaged: The faults of newer checkpoints, which were passed over.
    """

    number: int
    tree: PyTree
    about: dict[str, object]
    damaged: list[str]


class _Leaf(NamedTuple):
    name: str
    code: str  # the type, as safetensors calls it
    dtype: np.dtype
    shape: tuple[int, ...]
    value: jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class _Entry(NamedTuple):
    num_bytes: int
    sha256: str


def save(folder: Path, number: int, tree: PyTree, about: Mapping[str, object]) -> Path:
    """Writes a checkpoint and returns its folder; the disk has it, under its name, when this returns.

    The host holds one leaf at a time. Where there are several processes, all must call this; the first process writes,
    and all return after it has. A checkpoint of the same number is replaced, and lost only once the new one is there.

    Args:
        folder: The folder of the run's checkpoints, on a disk that all processes see; it is created where needed.
        number: The number of the checkpoint, from 0 to 99,999,999.
        tree: Arrays of JAX or NumPy, on any devices; keys of `jax.random` among them. Not Python's numbers: those
            belong into `about`.
        about: JSON values. A tuple comes back as a list.

    Raises:
        OSError: If it cannot be written, in every process; nothing is left of it, and the others are as they were.
        TypeError: If a leaf is no array or of a type that no file can hold; the message names it. Or if `about` is
            not made of JSON values.
        ValueError: If the number is out of range.
    """
    if not 0 <= number < 10**_NUM_DIGITS:
        raise ValueError(f"number must be from 0 to {10**_NUM_DIGITS - 1}; got {number}.")
    leaves = _leaves(tree)
    values = [leaf.value for leaf in leaves if not isinstance(leaf.value, jax.ShapeDtypeStruct)]
    if len(values) < len(leaves):
        raise TypeError("tree must hold arrays; got shapes without numbers.")
    text = json.dumps(dict(about), indent=2) + "\n"
    final = folder / f"{number:0{_NUM_DIGITS}}"
    arrays = (_whole(value) for value in values)
    is_saved = False
    try:
        if jax.process_index() == 0:
            _write(final, leaves, arrays, text.encode("ascii"))
        is_saved = True
    finally:
        if jax.process_count() > 1:
            deque(arrays, maxlen=0)  # every process takes part in gathering every leaf, whoever has failed
            # Nobody has the flag before the first process sends it: so this is where the others wait for it.
            is_saved = bool(multihost_utils.broadcast_one_to_all(np.int32(is_saved)))
    if not is_saved:
        raise OSError(f"{final} must be written by the first process, which could not. Its own error says why.")
    return final


def _leaves(tree: PyTree) -> list[_Leaf]:
    """The largest types first, so that in a file all lie aligned."""
    leaves = []
    for place, value in jax.tree.leaves_with_path(jax.tree.map(_numbers_of_key, tree)):
        name = jax.tree_util.keystr(place)
        if not isinstance(value, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
            raise TypeError(f"{name} must be an array; got {type(value).__name__}.")
        if value.dtype not in _CODES:
            known = ", ".join(str(dtype) for dtype in _CODES)
            raise TypeError(f"{name} must be of a type that safetensors has ({known}); got {value.dtype}.")
        leaves.append(_Leaf(name, _CODES[value.dtype], np.dtype(value.dtype), tuple(value.shape), value))
    if len({leaf.name for leaf in leaves}) < len(leaves):
        raise TypeError("The nodes of the tree must give their children different keys.")
    return sorted(leaves, key=lambda leaf: -leaf.dtype.itemsize)


def _is_key(leaf: object) -> TypeGuard[jax.Array]:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers_of_key(leaf: object) -> object:
    """The numbers of a random key; anything else as it is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _whole(value: jax.Array | np.ndarray | np.generic) -> np.ndarray:
    """All of an array; every process must ask for it."""
    if not isinstance(value, jax.Array):
        return np.asarray(value)
    if not (value.is_fully_addressable or value.is_fully_replicated):
        return multihost_utils.process_allgather(value, tiled=True)
    # Piece by piece: an array that is asked for all of itself keeps that copy on the host for as long as it lives.
    if value.is_fully_replicated:
        return np.asarray(value.addressable_shards[0].data)
    whole = np.empty(value.shape, value.dtype)
    for shard in value.addressable_shards:
        if shard.replica_id == 0:
            whole[shard.index] = np.asarray(shard.data)
    return whole


def _write(final: Path, leaves: Sequence[_Leaf], arrays: Iterator[np.ndarray], about: bytes) -> None:
    part, aside = final.with_name(f".{final.name}.part"), final.with_name(f".{final.name}.old")
    _make(final.parent)
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    try:
        entries: dict[str, _Entry] = {}

        def write(name: str, pieces: Iterable[bytes | memoryview]) -> None:
            entries[name] = _written(part / name, pieces)

        groups = _groups(leaves)
        for place, group in enumerate(groups, start=1):
            suffix = f"-{place:05}-of-{len(groups):05}" if len(groups) > 1 else ""
            write(f"arrays{suffix}.safetensors", _pieces(group, arrays))
        write(_ABOUT, [about])
        files = {name: {"bytes": entry.num_bytes, "sha256": entry.sha256} for name, entry in entries.items()}
        manifest = {"number": int(final.name), "files": files}
        write(_MANIFEST, [(json.dumps(manifest, indent=2) + "\n").encode("ascii")])
        write(_SEAL, [_seal(entries[_MANIFEST].sha256)])
        sync(part)
        if final.exists():
            if aside.exists():
                _remove(aside)
            final.rename(aside)
        part.rename(final)
        sync(final.parent)
    except BaseException:
        if not part.exists():  # it has its name, but nobody knows whether the disk has it
            final.rename(part)
        if aside.exists() and not final.exists():
            aside.rename(final)
        shutil.rmtree(part, ignore_errors=True)
        raise
    if aside.exists():
        with suppress(OSError):  # it no longer counts: the next to save or prune removes it
            _remove(aside)


def _make(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)  # the names of files are their folder's content


def _written(path: Path, pieces: Iterable[bytes | memoryview]) -> _Entry:
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            num_bytes += len(piece)
            del piece  # or it would be held while the next one is gathered
        file.flush()
        os.fsync(file.fileno())
    return _Entry(num_bytes, digest.hexdigest())


def _groups(leaves: Sequence[_Leaf]) -> list[list[_Leaf]]:
    """What goes into one file each; at least one, so that a tree without leaves has a file too."""
    groups: list[list[_Leaf]] = [[]]
    num_bytes = 0
    for leaf in leaves:
        if groups[-1] and num_bytes + leaf.num_bytes > _FILE_BYTES:
            groups.append([])
            num_bytes = 0
        groups[-1].append(leaf)
        num_bytes += leaf.num_bytes
    return groups


def _pieces(leaves: Sequence[_Leaf], arrays: Iterator[np.ndarray]) -> Iterator[bytes | memoryview]:
    """A safetensors file: the length of the header in eight bytes, the header, and the arrays without gaps.

    The library's own writer wants all of the arrays at once; this one wants one of them.
    """
    header: dict[str, object] = {}
    end = 0
    for leaf in leaves:
        start, end = end, end + leaf.num_bytes
        header[leaf.name] = {"dtype": leaf.code, "shape": leaf.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)  # the format's advice: what follows is aligned
    yield len(text).to_bytes(8, "little") + text
    for _ in leaves:
        yield np.ascontiguousarray(next(arrays)).reshape(-1).view(np.uint8).data


def _seal(sha256: str) -> bytes:
    """The line that `sha256sum --check` reads."""
    return f"{sha256}  {_MANIFEST}\n".encode("ascii")


def _remove(path: Path) -> None:
    """Removes a checkpoint so that half of it never counts as one."""
    part = path.with_name(f".{path.name.removeprefix('.')}.part")
    if part.exists():
        shutil.rmtree(part)
    path.rename(part)
    sync(path.parent)
    shutil.rmtree(part)


def load(path: Path, like: PyTree) -> tuple[PyTree, dict[str, object]]:
    """The arrays of a checkpoint, bit for bit, and the values beside them. Every byte is verified before any is used.

    Args:
        path: The checkpoint's folder.
        like: A tree of the same structure, shapes and types; arrays, or `jax.ShapeDtypeStruct`. An array gets the
            sharding of its leaf; by default, and where the leaf is committed to no device, that of a new array.

    Raises:
        DamagedError: If a file is missing, too many, unreadable, or not as it was written, or the folder is renamed.
        FileNotFoundError: If there is no such folder.
        TypeError: If a leaf of `like` is neither of both.
        ValueError: If the checkpoint is whole, but its leaves are others, or of another shape or type; all are named.
            Or if JAX would round a leaf, because it has 64 bits.
    """
    leaves = _leaves(like)
    if narrow := [leaf for leaf in leaves if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype]:
        raise ValueError(
            f"{narrow[0].name} must be of a type that JAX keeps; got {narrow[0].dtype}. Enable jax_enable_x64 first."
        )
    if not path.is_dir():
        raise FileNotFoundError(f"{path} must exist: a checkpoint is a folder.")
    try:
        files = _verified(path)
    except OSError as error:
        raise DamagedError(f"{path} is damaged: {error.filename or 'a file'} cannot be read: {error}.") from None
    headers = {name: _header(path / name) for name in files if name.endswith(".safetensors")}
    stored = {leaf: (file, record) for file, header in headers.items() for leaf, record in header.items()}
    wrong = [f"{leaf.name} is missing" for leaf in leaves if leaf.name not in stored]
    wrong += [f"{name} is too many" for name in sorted(stored.keys() - {leaf.name for leaf in leaves})]
    for leaf in leaves:
        if leaf.name in stored and _kind(stored[leaf.name][1]) != _kind(leaf):
            wrong.append(f"{leaf.name} is {_kind(stored[leaf.name][1])}, not {_kind(leaf)}")
    if wrong:
        more = f", and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(f"{path} must hold the arrays of this run; {', '.join(wrong[:4])}{more}.")
    arrays = {}
    for leaf in leaves:
        file, record = stored[leaf.name]
        # A copy and no map of the file: what was verified is then out of the disk's reach.
        data = np.fromfile(path / file, np.uint8, leaf.num_bytes, offset=record.offset)
        arrays[leaf.name] = _placed(data.view(leaf.dtype).reshape(leaf.shape), leaf)

    def of_leaf(place: tuple, leaf: object) -> jax.Array:
        array = arrays[jax.tree_util.keystr(place)]
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array

    tree = jax.tree.map_with_path(of_leaf, like)
    return tree, json.loads((path / _ABOUT).read_bytes())


class _Record(NamedTuple):
    code: str
    shape: tuple[int, ...]
    offset: int


def _kind(array: _Leaf | _Record) -> str:
    return f"{array.code} {array.shape}"


def _verified(path: Path) -> list[str]:
    """The files of a checkpoint that is as it was written."""

    def damaged(what: str) -> DamagedError:
        return DamagedError(f"{path} is damaged: {what}.")

    present = {entry.name for entry in path.iterdir()}
    if missing := [name for name in (_SEAL, _MANIFEST) if name not in present]:
        raise damaged(f"{missing[0]} is missing")
    content = (path / _MANIFEST).read_bytes()
    if (path / _SEAL).read_bytes() != _seal(hashlib.sha256(content).hexdigest()):
        raise damaged(f"{_MANIFEST} has another SHA-256 than {_SEAL} gives")
    try:
        manifest = json.loads(content)
        number = int(manifest["number"])
        files = {str(name): _Entry(int(file["bytes"]), str(file["sha256"])) for name, file in manifest["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise damaged(f"{_MANIFEST} is not a whole manifest") from None
    name = _VISIBLE.fullmatch(path.name)
    if name is None or int(name[1] or name[2]) != number:
        raise damaged(f"{_MANIFEST} is that of checkpoint {number}, so the folder was renamed")
    if missing := sorted((files.keys() | {_ABOUT}) - present):
        raise damaged(f"{missing[0]} is missing")
    if extra := sorted(present - files.keys() - {_MANIFEST, _SEAL}):
        raise damaged(f"{extra[0]} does not belong to it")
    for name, expected in files.items():  # all sizes before the first hash: they cost nothing
        if (size := (path / name).stat().st_size) != expected.num_bytes:
            raise damaged(f"{name} has {size} bytes, not {expected.num_bytes}")
    for name, expected in files.items():
        with (path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
                raise damaged(f"{name} has another SHA-256 than {_MANIFEST} gives")
    return sorted(files)


def _header(path: Path) -> dict[str, _Record]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {
        name: _Record(record["dtype"], tuple(record["shape"]), 8 + size + record["data_offsets"][0])
        for name, record in header.items()
    }


def _placed(array: np.ndarray, leaf: _Leaf) -> jax.Array:
    sharding = getattr(leaf.value, "sharding", None)
    # Committed to the first device, a counter could no longer meet parameters that lie on several.
    if sharding is None or not getattr(leaf.value, "committed", True):
        return jnp.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda place: array[place])


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """The newest first; one that was about to be replaced after that which took its place."""
    if not folder.is_dir():
        return []
    candidates = []
    for path in folder.iterdir():
        name = _VISIBLE.fullmatch(path.name)
        if name is not None and path.is_dir():
            candidates.append((int(name[1] or name[2]), path))
    return sorted(candidates, key=lambda entry: (-entry[0], entry[1].name.startswith(".")))


def numbers(folder: Path) -> list[int]:
    """The numbers of the checkpoints in a folder, descending; of damaged ones too. None where there is no folder."""
    return list(dict.fromkeys(number for number, _ in _candidates(folder)))


def newest(folder: Path, like: PyTree) -> Loaded | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Args:
        folder: The folder of the run's checkpoints.
        like: As in `load`.

    Raises:
        DamagedError: If there are some, and all are damaged; the message names every one.
        TypeError: As `load` does.
        ValueError: As `load` does; or if the processes found different ones.
    """
    damaged: list[str] = []
    loaded = None
    for number, path in _candidates(folder):
        try:
            loaded = Loaded(number, *load(path, like), damaged)
        except DamagedError as error:
            damaged.append(str(error))
        else:
            break
    if jax.process_count() > 1:
        chosen = multihost_utils.process_allgather(np.int32(-1 if loaded is None else loaded.number))
        if len(set(chosen.tolist())) > 1:
            raise ValueError(f"{folder} must be the same for every process; they found {chosen.tolist()}, -1 for none.")
    if loaded is None and damaged:
        raise DamagedError(f"{folder} must hold a checkpoint that is whole; all are damaged. " + " ".join(damaged))
    return loaded


def prune(folder: Path, keep: int, best: int | None, newest: int | None = None) -> None:
    """Removes all checkpoints but the newest and the best, and the half-done work of a killed process.

    Where there are several processes, the first process does it. None may be saving. Nothing is verified: after `save`
    has returned, the newest checkpoint is known to be whole.

    Args:
        folder: The folder of the run's checkpoints.
        keep: The number of the newest to keep, at least 1.
        best: The number of another checkpoint to keep.
        newest: The newest number that is known to be whole: those above it are damaged, and removed. By default the
            greatest number counts.

    Raises:
        OSError: If something cannot be removed.
        ValueError: If none would be kept.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1; got {keep}. Remove the folder to have none.")
    if jax.process_index() != 0 or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if _PART.fullmatch(path.name):
            shutil.rmtree(path)
    candidates = _candidates(folder)
    superseded = [later for former, later in pairwise(candidates) if former[0] == later[0]]
    whole = [number for number in numbers(folder) if newest is None or number <= newest]
    kept = {*whole[:keep], best}
    # What was superseded goes first: without that which took its place it would count again.
    for _, path in superseded:
        _remove(path)
    for number, path in candidates:
        if number not in kept and path.exists():
            _remove(path)
