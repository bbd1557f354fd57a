"""Run folders: what runs of the experiment left on disk, found, read back and checked.

Nothing is computed here, and nothing is repaired: what is not finite stays so, what was not measured is None.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from experiments import jsonl

__all__ = ["Arm", "Run", "arms", "extras", "find", "flat", "is_run_folder", "read", "read_all", "value", "whole"]

CONFIG, RECORDS = "config.json", "records.jsonl"

# What may differ between two runs that are repetitions of one another; beside these, everything that ends in "seed".
_OF_A_RUN_ALONE = frozenset(
    {"seed", "out", "folder", "name", "run", "resume", "device", "commit", "started", "checkpoint_every", "keep"}
)
_COUNTERS = ("optimizer_steps", "learning_rate_sum", "examples")  # the axes: 0 before any update
_SIDES = ("log_prob_plus", "log_prob_minus", "log_prob_plus_per_token", "log_prob_minus_per_token")
_NORMS = ("norm_plus", "norm_minus", "ratio_plus", "ratio_minus")
_NUMBERS = (
    *_COUNTERS,
    *("tokens", "loss_plus", "loss_minus", "alignment", "cosine", "update_norm", "distance"),
    *("seconds", "probe_seconds", "memory", *_SIDES, *_NORMS),
    *(f"probe.{name}" for name in _SIDES),
    *(f"probe_alignment.{name}" for name in ("product", "cosine", "product_unbiased", *_NORMS)),
    *(f"probe_alignment.norm_{side}_squared_unbiased" for side in ("plus", "minus")),
    *(f"accuracy.{name}" for name in ("right", "total", "low", "high")),
)


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: What the run is called: its folder, as seen from the folder that was given.
        folder: Where it lies.
        config: Its configuration, whole.
        headers: One, and one more for each time that it was resumed.
        updates: The rows of kind `update`, in order; as they were written.
        end: The row of kind `end`, None where the run was not ended: it is still running, or was killed.
    """

    name: str
    folder: Path
    config: dict[str, object]
    headers: tuple[dict[str, object], ...]
    updates: tuple[dict[str, object], ...]
    end: dict[str, object] | None

    @property
    def seed(self) -> int:
        """Its seed."""
        return whole(self.config, "seed")

    def arm(self, key: str) -> str:
        """A value of the arm's configuration as text, empty where there is none."""
        arm = self.config["arm"]
        return str(arm.get(key, "")) if isinstance(arm, dict) else ""

    @property
    def state(self) -> str:
        """How it ended: `finished`, `not-finite`, `stopped`, or `unfinished` where nothing was said."""
        return "unfinished" if self.end is None else str(self.end.get("reason"))

    @property
    def last_update(self) -> int:
        """The number of updates made."""
        return whole(self.updates[-1], "update")

    @property
    def collapsed_at(self) -> int | None:
        """The first update at which the collapse criterion was met, None where it never was."""
        return next((whole(row, "update") for row in self.updates if row.get("is_collapsed") is True), None)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seed.

    Attributes:
        label: The arm's name; with what else tells it apart where runs of one name are configured differently.
        runs: By seed.
    """

    label: str
    runs: tuple[Run, ...]

    def option(self, key: str) -> str:
        """A value of the arm's configuration as text, empty where there is none."""
        return self.runs[0].arm(key)


def value(row: Mapping[str, object], field: str) -> float | None:
    """A number of a row, by its name with dots; None where it was not measured.

    `accuracy.share` is right / total. The counters are 0 before the first update.
    """
    if field == "accuracy.share":
        right, total = value(row, "accuracy.right"), value(row, "accuracy.total")
        return None if right is None or total is None else right / total
    found: object = row
    for name in field.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is None and field in _COUNTERS and row.get("update") == 0:
        return 0.0
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def whole(record: Mapping[str, object], key: str) -> int:
    """A whole number that reading has made sure of."""
    found = record[key]
    assert isinstance(found, int)
    return found


def flat(record: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """What an object holds at any depth, under names with dots; lists are left as they are."""
    for name, held in record.items():
        if isinstance(held, Mapping):
            yield from flat(held, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", held


def is_run_folder(folder: Path) -> bool:
    """Whether it holds both files that make a run."""
    return (folder / CONFIG).is_file() and (folder / RECORDS).is_file()


def find(folders: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]], list[str]]:
    """The runs in folders, at any depth, each once.

    Args:
        folders: Each a run folder, or one that holds some.

    Returns:
        Names and folders of runs; names and paths of files `twin-*.json` and `attribution-*.json`; notes about what is
        left out.

    Raises:
        OSError: If a folder cannot be read.
        ValueError: If a folder holds nothing to report, or none of them holds a run.
    """
    runs: dict[Path, str] = {}
    others: dict[Path, str] = {}
    notes: list[str] = []
    for given in folders:
        num_found = 0
        for folder, names in _walk(given, notes):
            where = Path(given.resolve().name) / folder.relative_to(given)
            if is_run_folder(folder):
                num_found += 1
                relative = folder.relative_to(given).as_posix()
                runs.setdefault(folder.resolve(), folder.resolve().name if relative == "." else relative)
            elif RECORDS in names:
                notes.append(f"{where.as_posix()} holds {RECORDS} but no {CONFIG}: passed over.")
            for name in names:
                if name.endswith(".json") and name.startswith(("twin-", "attribution-")):
                    num_found += 1
                    others.setdefault(folder / name, (where / name).as_posix())
        if not num_found:
            raise ValueError(f"RUN must be or hold a folder with {CONFIG} and {RECORDS}; {given} has none.")
    if not runs:
        raise ValueError(f"RUN must be or hold a folder with {CONFIG} and {RECORDS}; got none.")
    # Two folders of one name are told apart by where they lie.
    named = list(runs.items())
    counts = {name: sum(other == name for _, other in named) for _, name in named}
    unique = [(name if counts[name] == 1 else f"{folder.parent.name}/{name}", folder) for folder, name in named]
    if len({name for name, _ in unique}) < len(unique):
        unique = [(f"{name} ({place})", folder) for place, (name, folder) in enumerate(unique, start=1)]
    return unique, [(name, path) for path, name in others.items()], notes


def _walk(given: Path, notes: list[str]) -> Iterator[tuple[Path, list[str]]]:
    def refuse(error: OSError) -> None:
        if Path(error.filename) == given:
            raise error
        where = Path(given.resolve().name) / Path(error.filename).relative_to(given)
        notes.append(f"{where.as_posix()} is left out: it cannot be read ({error.strerror}).")

    for folder, below, names in os.walk(given, onerror=refuse):
        below.sort()
        yield Path(folder), sorted(names)


def read_all(places: Sequence[tuple[str, Path]], notes: list[str]) -> list[Run]:
    """The runs that can be read.

    Args:
        places: Names and folders of runs, as `find` gives them.
        notes: A run that cannot be read is named here, with the reason; and what `read` notes.

    Raises:
        OSError: If no run can be read; the first one's error.
        ValueError: Likewise.
    """
    runs: list[Run] = []
    errors: list[OSError | ValueError] = []
    for name, folder in places:
        try:
            runs.append(read(name, folder, notes))
        except (OSError, ValueError) as error:
            errors.append(error)
            notes.append(f"The run {name} is left out: {str(error).replace(str(folder), name)}")
    if errors and not runs:
        raise errors[0]
    return runs


def read(name: str, folder: Path, notes: list[str]) -> Run:
    """A run.

    Args:
        name: What it is to be called.
        folder: Where it lies.
        notes: A torn last line is described here.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file does not hold what it should; the message names the file, and the line where there is one.
    """
    config = jsonl.read_object(folder / CONFIG)
    _check_config(config, folder / CONFIG)
    headers: list[dict[str, object]] = []
    updates: list[dict[str, object]] = []
    end: dict[str, object] | None = None

    def checked(record: dict[str, object], number: int) -> dict[str, object]:
        del number
        _check_record(record, updates[-1] if updates else None)
        return record

    torn: list[str] = []
    for record in jsonl.records(folder / RECORDS, checked, torn=torn):
        if record["kind"] == "header":
            headers.append(record)
        elif record["kind"] == "update":
            updates.append(record)
        # A run that was stopped and resumed has a line `end` in the middle: it is the last one that counts.
        end = record if record["kind"] == "end" else None
    # On a page that is passed on, a run is named and not the place where it lay.
    notes += [note.replace(str(folder), name) for note in torn]
    if not updates:
        raise ValueError(f"{folder / RECORDS} must hold an update; got none.")
    return Run(name, folder, config, tuple(headers), tuple(updates), end)


def _check_config(config: Mapping[str, object], path: Path) -> None:
    for key, kinds, what in (
        ("preset", str, "text"),
        ("model", str, "text"),
        ("data", str, "text"),
        ("seed", int, "a whole number"),
        ("num_updates", int, "a whole number"),
        ("num_pairs", int, "a whole number"),
        ("learning_rate", (int, float), "a number"),
        ("arm", dict, "an object"),
    ):
        if key not in config or not isinstance(config[key], kinds) or isinstance(config[key], bool):
            got = repr(config[key])[:60] if key in config else "nothing"
            raise ValueError(f"{path}: `{key}` must be {what}; got {got}.")
    arm = config["arm"]
    if not isinstance(arm, dict) or not isinstance(arm.get("name"), str) or not arm["name"]:
        raise ValueError(f"{path}: `arm.name` must be text; got {str(arm)[:60]}.")


def _check_record(record: Mapping[str, object], previous: Mapping[str, object] | None) -> None:
    kind = record.get("kind")
    if kind not in ("header", "update", "end"):
        raise ValueError(f"`kind` must be header, update or end; got {kind!r}")
    if kind != "update":
        return
    update = record.get("update")
    if not isinstance(update, int) or isinstance(update, bool) or update < 0:
        raise ValueError(f"`update` must be a whole number of at least 0; got {update!r}")
    if previous is not None and update <= whole(previous, "update"):
        raise ValueError(f"`update` must rise; got {update} after {previous['update']}")
    for name, held in flat(record):
        is_measured = name in _NUMBERS and held is not None
        if (is_measured or (isinstance(held, int) and not isinstance(held, bool))) and not _is_number(held):
            raise ValueError(f"`{name}` must be a number; got {str(held)[:60]!r}")
    for name in _COUNTERS:
        if value(record, name) is None:
            raise ValueError(f"`{name}` must be a number; got nothing")
    total = value(record, "accuracy.total")
    if total is not None and total < 1:
        raise ValueError(f"`accuracy.total` must be at least 1; got {total}")


def extras(
    places: Sequence[tuple[str, Path]], notes: list[str]
) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    """Comparisons of the two updates at one point, and attributions of their gap, by the names of their files.

    Args:
        places: Names and paths of the files, as `find` gives them.
        notes: A file that cannot be read, or does not hold what its name says, is named here, with the reason.
    """
    twins: dict[str, dict[str, object]] = {}
    attributions: dict[str, dict[str, object]] = {}
    for where, path in places:
        kind = path.name.partition("-")[0]
        try:
            record = jsonl.read_object(path)
            if record.get("kind") != kind:
                raise ValueError(f"`kind` must be {kind}; got {str(record.get('kind'))[:60]!r}.")
            (_check_twin if kind == "twin" else _check_attribution)(record)
        except (OSError, ValueError) as error:
            notes.append(f"{where} is left out: {str(error).replace(str(path), 'the file')}")
            continue
        into = twins if kind == "twin" else attributions
        name = path.stem if path.stem not in into else f"{path.stem}-{len(into) + 1}"
        into[name] = record
    return twins, attributions


TWIN_LISTS = (
    *("gap", "first", "second", "gradient_part", "bracket", "remainder_first", "remainder_second"),
    *("cosine", "round_off"),
)
ALIGNMENT_LISTS = ("accumulated", "sequential", "predicted_accumulated", "predicted_sequential")


def _check_twin(record: Mapping[str, object]) -> None:
    rates = record.get("learning_rates")
    if not isinstance(rates, list) or not rates or not all(_is_number(rate) and 0 < rate < inf for rate in rates):
        raise ValueError("`learning_rates` must be positive numbers.")
    fits = record.get("fits")
    if not isinstance(fits, dict) or not all(isinstance(fits.get(name), dict) for name in ("first", "second")):
        raise ValueError("`fits` must have `first` and `second`.")
    for name, fit in fits.items():
        if isinstance(fit, dict) and not all(
            fit.get(key) is None or _is_number(fit.get(key)) for key in ("order", "theory")
        ):
            raise ValueError(f"`fits.{name}` must have numbers for `order` and `theory`, or null.")
    _check_columns(record, TWIN_LISTS, len(rates))
    alignment = record.get("alignment")
    if alignment is None:  # of a twin made without it, or of one that was stopped before it
        return
    if not isinstance(alignment, dict) or not _is_number(alignment.get("start")):
        raise ValueError("`alignment.start` must be a number.")
    _check_columns(alignment, ALIGNMENT_LISTS, len(rates))


def _check_columns(holder: Mapping[str, object], names: Sequence[str], length: int) -> None:
    for name in names:
        held = holder.get(name)
        if not isinstance(held, list) or len(held) != length or not all(map(_is_number, held)):
            raise ValueError(f"`{name}` must be {length} numbers, one for each learning rate.")


def _check_attribution(record: Mapping[str, object]) -> None:
    rows = record.get("rows")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict)
        and isinstance(row.get("cause"), str)
        and all(map(_is_number, (row.get("norm"), row.get("share"))))
        for row in rows
    ):
        raise ValueError("`rows` must be objects with `cause`, `norm` and `share`.")
    if not _is_number(record.get("total")):
        raise ValueError("`total` must be a number.")


def _is_number(held: object) -> bool:
    """Whether it is a number that a float can hold; NaN and infinity are."""
    if isinstance(held, bool) or not isinstance(held, (int, float)):
        return False
    return isinstance(held, float) or abs(held) < 2**1000


def arms(runs: Sequence[Run]) -> list[Arm]:
    """Runs by arm: accumulated arms first, then by name; within an arm by seed.

    Runs of one name that are configured differently are different arms, and their labels say by what.
    """
    settings = [{name: held for name, held in flat(run.config) if not _is_of_a_run_alone(name)} for run in runs]
    groups: list[tuple[dict[str, object], list[Run]]] = []
    for run, setting in zip(runs, settings, strict=True):
        group = next((members for other, members in groups if other == setting), None)
        if group is None:
            groups.append((setting, [run]))
        else:
            group.append(run)
    made = []
    for setting, members in groups:
        name = members[0].arm("name")
        namesakes = [other for other, runs_of_it in groups if runs_of_it[0].arm("name") == name]
        differing = [
            key
            for key in sorted({key for other in namesakes for key in other})
            if any(other.get(key) != namesakes[0].get(key) for other in namesakes)
        ]
        told_apart = ", ".join(f"{key}={setting.get(key, 'none')}" for key in differing)
        label = f"{name} ({told_apart})" if told_apart else name
        made.append(Arm(label, tuple(sorted(members, key=lambda run: (run.seed, run.name)))))
    return sorted(made, key=lambda arm: (arm.option("update") != "accumulated", arm.label))


def _is_of_a_run_alone(name: str) -> bool:
    return name in _OF_A_RUN_ALONE or name.endswith("seed")
