"""Run folders: the files of runs, found, read back and checked.

Nothing is computed here, and nothing is repaired: a run that is not finished stays so, a quantity that was not measured
is None.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from console import grammar
from experiments import files, grid, rates, records
from experiments.comparison_records import Attribution, Twin
from experiments.records import CONFIG, LIST, RECORDS, Ending, Header, UpdateRow
from experiments.typed import fault

__all__ = [
    "Arm",
    "ArmConfig",
    "Run",
    "RunConfig",
    "comparisons",
    "find",
    "flat",
    "group",
    "is_run_folder",
    "read",
    "read_all",
]

# Values that may differ between two repetitions of a run; beside these, everything that ends in "seed".
_OF_A_RUN_ALONE = frozenset(
    {"seed", "out", "folder", "name", "run", "resume", "device", "commit", "started", "checkpoint_every", "keep"}
)


class _Settings(BaseModel):
    """Values that the report needs; an older or a newer version may have other keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class ArmConfig(_Settings):
    """The arm of a run."""

    name: str = Field(min_length=1)
    word: str = ""
    start: object = ""
    rate: object = ""
    optimizer: object = ""

    @property
    def num_steps(self) -> int:
        """The steps of the rule in an update; 0 where the word cannot be read."""
        try:
            return len(grammar.parse(self.word).updates)
        except ValueError:
            return 0

    @property
    def is_accumulated(self) -> bool:
        """Whether an update is one step of the rule."""
        return self.num_steps == 1

    @property
    def is_sequential(self) -> bool:
        """Whether an update is several steps of the rule."""
        return self.num_steps > 1

    @property
    def is_matched(self) -> bool:
        """Whether gradient descent moves as far as in one step on the mean, at first order (claim `lr-match`)."""
        try:
            return isclose(rates.step_of(str(self.rate), self.num_steps) * self.num_steps, 1)
        except ValueError:
            return False


class RunConfig(_Settings):
    """The configuration of a run."""

    preset: str
    model: str
    data: str
    seed: int
    num_updates: int
    num_pairs: int
    learning_rate: float
    arm: ArmConfig


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: Its folder, as seen from the folder that was given.
        folder: Its place.
        config: Its configuration.
        settings: All values of it under names with dots, as they were written.
        headers: One, and one more for each time that it was resumed.
        updates: The rows of updates, in order.
        end: The last line; None where the run is still at work, or was killed.
    """

    name: str
    folder: Path
    config: RunConfig
    settings: dict[str, object]
    headers: tuple[Header, ...]
    updates: tuple[UpdateRow, ...]
    end: Ending | None

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.seed

    @property
    def state(self) -> str:
        """Its end: `finished`, `not-finite`, `stopped`, or `unfinished` where there is none."""
        return "unfinished" if self.end is None else self.end.reason

    @property
    def last_update(self) -> int:
        """The number of updates made."""
        return self.updates[-1].update

    def values(self, name: str) -> list[float]:
        """All measurements of a quantity, by its name with dots; finite or not."""
        return [amount for row in self.updates if (amount := records.value(row, name)) is not None]

    @property
    def collapsed_at(self) -> int | None:
        """The first update at which the criterion of collapse was met; None where it never was."""
        return next((row.update for row in self.updates if row.is_collapsed), None)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seed.

    Attributes:
        label: The arm's name; with the values that tell it apart where runs of one name are configured differently.
        runs: By seed.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def config(self) -> ArmConfig:
        """Its configuration."""
        return self.runs[0].config.arm


def flat(content: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The values of an object at any depth, under names with dots; lists stay as they are."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def is_run_folder(folder: Path) -> bool:
    """Whether it holds both files of a run."""
    return (folder / CONFIG).is_file() and (folder / RECORDS).is_file()


def find(folders: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]], list[str]]:
    """The runs in folders, at any depth, each once.

    Args:
        folders: Each a run folder, or one that holds some.

    Returns:
        Names and folders of runs; names and paths of files `twin-*.json` and `attribution-*.json`; notes about the
        folders that are left out, and about runs that were asked for and have not ended.

    Raises:
        OSError: If a folder cannot be read.
        ValueError: If a folder holds nothing to report, or none of them holds a run.
    """
    runs: dict[Path, str] = {}
    others: dict[Path, str] = {}
    notes: list[str] = []
    for top in folders:
        num_found = 0
        for folder, names in _walk(top, notes):
            where = Path(top.resolve().name) / folder.relative_to(top)
            if is_run_folder(folder):
                num_found += 1
                relative = folder.relative_to(top).as_posix()
                runs.setdefault(folder.resolve(), folder.resolve().name if relative == "." else relative)
            elif RECORDS in names:
                notes.append(f"{where.as_posix()} holds {RECORDS} but no {CONFIG}: passed over.")
            if LIST in names:
                notes += _missing(folder, where)
            for name in names:
                if name.endswith(".json") and name.startswith(("twin-", "attribution-")):
                    num_found += 1
                    others.setdefault(folder / name, (where / name).as_posix())
        if not num_found:
            more = "".join(f" {note}" for note in notes)
            raise ValueError(f"RUN must be or hold a folder with {CONFIG} and {RECORDS}; {top} has none.{more}")
    if not runs:
        raise ValueError(f"RUN must be or hold a folder with {CONFIG} and {RECORDS}; got none.")
    # Two folders of one name are told apart by their place.
    named = list(runs.items())
    counts = {name: sum(other == name for _, other in named) for _, name in named}
    unique = [(name if counts[name] == 1 else f"{folder.parent.name}/{name}", folder) for folder, name in named]
    if len({name for name, _ in unique}) < len(unique):
        unique = [(f"{name} ({place})", folder) for place, (name, folder) in enumerate(unique, start=1)]
    return unique, [(name, path) for path, name in others.items()], notes


def _missing(folder: Path, name: Path) -> Iterator[str]:
    """A note about the runs of a folder's list that have not ended, if there are any."""
    try:
        missing = grid.missing(folder)
        total = len(grid.read_list(folder))
    except (OSError, ValueError) as error:
        yield f"{(name / LIST).as_posix()} is left out: {str(error).replace(str(folder), name.as_posix())}"
        return
    if missing:
        yield f"{name.as_posix()}: {len(missing)} of {total} runs are missing: {', '.join(missing)}."


def _walk(top: Path, notes: list[str]) -> Iterator[tuple[Path, list[str]]]:
    def refuse(error: OSError) -> None:
        if Path(error.filename) == top:
            raise error
        where = Path(top.resolve().name) / Path(error.filename).relative_to(top)
        notes.append(f"{where.as_posix()} is left out: it cannot be read ({error.strerror}).")

    for folder, below, names in os.walk(top, onerror=refuse):
        below.sort()
        yield Path(folder), sorted(names)


def read_all(places: Sequence[tuple[str, Path]], notes: list[str]) -> list[Run]:
    """The runs that can be read.

    Args:
        places: Names and folders of runs, as `find` gives them.
        notes: Gets the name of a run that cannot be read, with the reason, and the notes of `read`.

    Raises:
        OSError: If no run can be read; the error of the first.
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
        name: Its name in the report.
        folder: Its place.
        notes: Gets a description of a torn last line.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file does not hold what it should; the message names the file, and the line where there is one.
    """
    content = records.completed_config(files.read_object(folder / CONFIG))
    config = _config(content, folder / CONFIG)
    headers: list[Header] = []
    updates: list[UpdateRow] = []
    end: Ending | None = None
    torn: list[str] = []

    def convert(line: dict[str, object], _: int) -> Header | UpdateRow | Ending:
        return records.convert(line, updates[-1] if updates else None)

    for record in files.read_lines(folder / RECORDS, convert, torn=torn):
        if isinstance(record, Header):
            headers.append(record)
        elif isinstance(record, UpdateRow):
            updates.append(record)
        # A run that was stopped and resumed has a line `end` in the middle: it is the last one that counts.
        end = record if isinstance(record, Ending) else None
    # On a page that is passed on, a run has its name and not its place.
    notes += [note.replace(str(folder), name) for note in torn]
    if not updates:
        raise ValueError(f"{folder / RECORDS} must hold an update; got none.")
    return Run(name, folder, config, dict(flat(content)), tuple(headers), tuple(updates), end)


def _config(content: Mapping[str, object], path: Path) -> RunConfig:
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {fault(error)}.") from None


def comparisons(places: Sequence[tuple[str, Path]], notes: list[str]) -> tuple[dict[str, Twin], dict[str, Attribution]]:
    """Comparisons of one update both ways, and attributions of their gap, by the names of their files.

    Args:
        places: Names and paths of the files, as `find` gives them.
        notes: Gets the name of a file that cannot be read, or does not hold what its name says, with the reason.
    """
    twins: dict[str, Twin] = {}
    attributions: dict[str, Attribution] = {}
    for where, path in places:
        try:
            content = files.read_object(path)
            if path.name.startswith("twin-"):
                twins[_free_name(path, twins)] = Twin.from_json(content)
            else:
                attributions[_free_name(path, attributions)] = Attribution.from_json(content)
        except (OSError, ValueError) as error:
            notes.append(f"{where} is left out: {str(error).replace(str(path), 'the file')}")
    return twins, attributions


def _free_name(path: Path, taken: Mapping[str, object]) -> str:
    return path.stem if path.stem not in taken else f"{path.stem}-{len(taken) + 1}"


def group(runs: Sequence[Run]) -> list[Arm]:
    """Runs by arm: accumulated arms first, then by name; within an arm by seed.

    Runs of one name that are configured differently are different arms, and their labels say by which values.
    """
    groups: list[tuple[dict[str, object], list[Run]]] = []
    for run in runs:
        shared = _shared(run)
        members = next((members for other, members in groups if other == shared), None)
        if members is None:
            groups.append((shared, [run]))
        else:
            members.append(run)
    arms = []
    for _, members in groups:
        name = members[0].config.arm.name
        namesakes = [shared for shared, (other, *_) in groups if other.config.arm.name == name]
        differing = [
            key
            for key in sorted({key for other in namesakes for key in other})
            if any(other.get(key) != namesakes[0].get(key) for other in namesakes)
        ]
        values = ", ".join(f"{key}={members[0].settings.get(key, 'none')}" for key in differing)
        label = f"{name} ({values})" if values else name
        arms.append(Arm(label, tuple(sorted(members, key=lambda run: (run.seed, run.name)))))
    return sorted(arms, key=lambda arm: (not arm.config.is_accumulated, arm.label))


def _shared(run: Run) -> dict[str, object]:
    """The settings that repetitions of a run share."""
    return {
        name: value for name, value in run.settings.items() if name not in _OF_A_RUN_ALONE and not name.endswith("seed")
    }
