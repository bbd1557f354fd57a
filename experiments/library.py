"""The experiment from Python: arms and seeds on a language model or on losses of one's own, and their report.

The records are those of the command: `report` reads them, a run that has ended is passed over, and one that was
interrupted is resumed by the same call.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from console.output import write
from experiments import arms as arm_table
from experiments import config, presets
from experiments.config import PYTHON, Config, Measures
from experiments.report import page, run_folders
from experiments.report.run_folders import Run
from experiments.training import own_task, run_set
from experiments.training.own_task import OwnLosses

__all__ = ["LanguageModel", "OwnLosses", "run", "write_report"]


@dataclass(frozen=True)
class LanguageModel:
    """A language model with its pairs, as the command `run` has them.

    Attributes:
        preset: A name of `presets`, for everything that is not given.
        model: The model's folder; that of the preset if None.
        data: A folder of problems, "generated" or "hub", or preference data: a file .jsonl or .parquet, or hub:NAME;
            that of the preset if None.
        settings: Any other values, by the names of --set: {"columns": "chosen=good", "num_problems": 100}.
    """

    preset: str = "tiny"
    model: str | None = None
    data: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


def run(
    task: LanguageModel | OwnLosses,
    *,
    out: str | Path,
    arms: Sequence[str] = ("accumulated", "sequential"),
    seeds: Iterable[int] = (0,),
    learning_rate: float | None = None,
    num_updates: int | None = None,
    num_pairs: int | None = None,
    settings: Mapping[str, object] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Run]:
    """Makes runs of arms times seeds, each in its folder below `out`.

    Args:
        task: A language model, or losses of one's own.
        out: The folder; each run goes to ARM/seed-K in it.
        arms: Words of steps or their names, with keys: "+-+-:rate=1/4,optimizer=sgd".
        seeds: The seeds of the runs of each arm.
        learning_rate: eta, the step of an accumulated update; of a language model that of the preset if None.
        num_updates: The updates of a run; of a language model those of the preset if None.
        num_pairs: The examples in a half of an update; of a language model those of the preset if None.
        settings: Any other values of the configuration, by names with dots: {"keep": 0, "rule.b2": 0.95}.
        say: A function of a line about each run.

    Returns:
        The runs, arm by arm and seed by seed, with their rows.

    Raises:
        KeyboardInterrupt: If the user interrupts; what was made is saved, and the same call goes on.
        OSError: If something cannot be read or written.
        ValueError: If an arm, a value, the model or the data cannot be used, or `out` holds other runs.
    """
    top = Path(out)
    if isinstance(arms, str) or isinstance(seeds, int):
        raise ValueError('arms and seeds must be lists: arms=["(+-)"], seeds=[0, 1].')
    own = {"learning_rate": learning_rate, "num_updates": num_updates, "num_pairs": num_pairs}
    own = {key: value for key, value in own.items() if value is not None}
    if twice := sorted(own.keys() & (settings or {}).keys()):
        raise ValueError(f"settings must not name {', '.join(twice)}, which is given apart.")
    values = {key: _plain(value) for key, value in {**(settings or {}), **own}.items()}
    if isinstance(learning_rate, str):
        raise ValueError(f"learning_rate must be a number; got the text {learning_rate!r}.")
    numbers = [_plain(seed) for seed in seeds]
    chosen = [arm_table.parse(text) for text in arms]
    if len({arm.name for arm in chosen}) < len(chosen):
        raise ValueError(f"arms must differ; got {', '.join(arm.name for arm in chosen)}.")
    wanted = [_config(task, arm, {**values, "seed": seed}) for arm in chosen for seed in numbers]
    runs = {top / one.arm.name / f"seed-{one.seed}": one for one in wanted}
    task_of = None if isinstance(task, LanguageModel) else lambda one: own_task.of(one, task)
    if isinstance(task, LanguageModel):
        run_set.check_arms(wanted)
    top.mkdir(parents=True, exist_ok=True)
    if run_set.run_all(runs, out=top, show=_silent, report=lambda line, _: say(line), task_of=task_of):
        raise KeyboardInterrupt
    notes: list[str] = []
    return [run_folders.read(folder.relative_to(top).as_posix(), folder, notes) for folder in runs]


def write_report(*folders: str | Path, out: str | Path) -> Path:
    """Writes figures, tables and one page from runs, as the command `report` does.

    Args:
        folders: Folders of runs, or folders that hold some.
        out: The folder to write to.

    Returns:
        The page.

    Raises:
        OSError: If something cannot be read or written.
        ValueError: If there is nothing to report, or `out` is a run's folder.
    """
    if run_folders.is_run_folder(Path(out)):
        raise ValueError(f"out must not be a run folder; got {out}. Its files are the run's own.")
    found, others, notes = run_folders.find([Path(folder) for folder in folders])
    runs = run_folders.read_all(found, notes)
    twins, attributions = run_folders.comparisons(others, notes)
    content = page.assemble(run_folders.group(runs), twins, attributions, notes, lambda done, note="": None)
    for name, part in content.items():
        path = Path(out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, part)
    return Path(out) / "index.html"


def _plain(value: object) -> object:
    """A number of NumPy or JAX as one of Python."""
    return np.asarray(value).item() if isinstance(value, np.generic | np.ndarray | jax.Array) else value


def _config(task: LanguageModel | OwnLosses, arm: arm_table.Arm, values: Mapping[str, object]) -> Config:
    if isinstance(task, LanguageModel):
        places = {"model": task.model, "data": task.data}
        given = {key: value for key, value in places.items() if value is not None}
        return presets.config(task.preset, arm, {**task.settings, **given, **values})
    for name in ("learning_rate", "num_updates", "num_pairs"):
        if name not in values:
            raise ValueError(f"{name} must be given for losses of one's own.")
    base = Config(
        preset=PYTHON,
        model=task.name,
        data=PYTHON,
        arm=arm,
        learning_rate=1.0,
        num_updates=1,
        num_pairs=arm.num_letters,
        max_tokens=2,  # of texts, which there are none of
        measures=Measures(probe_pairs=2),
    )
    return config.with_settings(base, values)


@contextmanager
def _silent(what: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
    del what, total, unit

    def advance(done: int, note: str = "") -> None:
        del done, note

    yield advance
