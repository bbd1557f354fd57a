"""`python -m experiments run`: arms times seeds, each into a folder of its own; what has ended is passed over."""

import json
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from console.cluster import NO_CLUSTER, Cluster
from console.command import CallError, FailureError, call, call_errors, command, option, option_group
from console.progress import progress, waiting
from console.values import input_file, number, output_folder, whole
from experiments import arms, files, grid, presets
from experiments.config import Config, to_json

__all__ = ["ALONE", "Processes", "execute", "main", "run"]

_DEFAULT_ARMS = ("accumulated", "sequential")
_DEFAULT_PRESET = "smollm2"  # of a model without one
_OF_OTHER_COMMANDS = " Skip such lines with --skip-broken."


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {meaning}" for name, meaning in rows.items())


_EPILOG = f"""\
presets:
{_table({name: preset.meaning for name, preset in presets.BY_NAME.items()})}

arms (default: the post's two, accumulated and sequential):
{_table(arms.MEANINGS)}
or a word of steps, for which these are names: + descends on the preferred half,
- ascends on the dispreferred one, k descends on the divergence from the start;
brackets average gradients, a number behind a colon is a scale: "+-+-",
"(+-)(+-)", "+-k:0.1" (docs/words.md). The solutions of a half are split over
its letters. An arm is changed by keys: "+-+-:rate=1/4,optimizer=sgd". Keys and
values:
{_table(arms.CHOICES)}

--set changes any other value: num_updates, num_pairs, learning_rate, rule.b2,
measures.accuracy_every, mesh.fsdp ...; --config gives many of them as JSON
({{"num_pairs": 8, "rule": {{"b2": 0.95}}}}).

--pairs takes the layouts of trainers: prompt, chosen, rejected (the prompt may
be implicit) or prompt, completion, label, as texts or as messages with roles;
and the project's own lines. The probe is of a share of the rows, --set
held_out=0.1, or of a file of its own, --held-out FILE; rows that stand in both
files are left out of the updates. --skip-broken counts broken rows by reason.

Every run goes to DIR/ARM/seed-K and leaves config.json, records.jsonl and
checkpoints/. A run that has ended is passed over, one that has not is resumed:
the same command again, or `resume DIR`, which reads in DIR/runs.json the runs
that were asked for. One Ctrl-C saves and leaves.

A cell is one arm with one seed. --list prints a command for each, to be started
by whatever starts many (a Slurm array, GNU parallel), and lists all of them in
DIR/runs.json: `report` names those that are missing. --ray makes them as tasks
of Ray, here or on a cluster whose machines all see DIR: a cell whose process
dies goes on elsewhere, and one Ctrl-C saves all. A cell computes with as many
threads as it has CPUs (NPROC=1 without Ray): float32 depends on it in its last
digits.

A checkpoint holds parameters and moments, 12 bytes a parameter under AdamW. A
run at work has two, a finished one the newest: `twin` begins there. --set
keep=0 keeps none, keep=3 three and the best; the room that they take is printed
before anything is loaded.

examples:
  python -m experiments run --preset tiny --out runs/tiny
  python -m experiments run --preset smollm2 --arm accumulated --arm sequential
    --arm sequential-matched --seeds 0,1,2 --out runs/smollm2
  python -m experiments run --preset smollm2 --pairs preferences.jsonl
  python -m experiments run --preset smollm2 --pairs train.parquet
    --held-out test.parquet --columns chosen=good,rejected=bad
  python -m experiments run --preset llama3-8b --dry-run
  python -m experiments run --preset tiny --seeds 0,1,2 --ray
  python -m experiments run --preset tiny --seeds 0,1,2 --list > cells.txt
  sed -n "${{SLURM_ARRAY_TASK_ID}}p" cells.txt | bash    # or: parallel < cells.txt

exit status: 0, also where a run ends because a value is not finite (its last
line says so); 1 where something could not be written; 2 for a call that cannot
be carried out; 130 where it is stopped.
"""


def _seeds(value: str) -> tuple[int, ...]:
    check = whole(0, 2**32 - 1)
    return tuple(dict.fromkeys(check(part) for part in value.split(",")))


@option_group
@dataclass(frozen=True)
class Processes:
    """The place of this process among those of a run, as in `distributed.join`."""

    coordinator: Annotated[
        str | None, option("of a run on several processes; auto under Slurm and the like", "HOST:PORT")
    ] = None
    processes: Annotated[int | None, option("how many there are", "N", whole(1))] = None
    process: Annotated[int | None, option("which of them this is, from 0", "I", whole(0))] = None


ALONE = Processes()


def _settings(file: Path | None, items: Sequence[str]) -> dict[str, object]:
    """The settings of a JSON file, with those of KEY=VALUE over them."""
    settings: dict[str, object] = {}
    for key, value in ({} if file is None else files.read_object(file)).items():
        inner = value if isinstance(value, dict) else {}
        settings |= {f"{key}.{name}": leaf for name, leaf in inner.items()} or {key: value}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE; got {item[:60]}.")
        settings[key.strip()] = value.strip()
    return settings


def _configs(preset: str, texts: Sequence[str], seeds: Sequence[int], settings: dict[str, object]) -> list[Config]:
    """The configurations that a call asks for, arm by arm and seed by seed."""
    if "data" not in settings and not Path(presets.config(preset).data).is_dir():
        settings["data"] = "generated"  # `run` says so
    for key in settings:
        if key in ("preset", "seed") or key.split(".")[0] == "arm":
            other = {"preset": "--preset", "seed": "--seeds"}.get(key, "--arm NAME:key=value")
            raise ValueError(f"{key} must be given by {other}.")
    chosen = [arms.parse(text) for text in texts]
    if len({arm.name for arm in chosen}) < len(chosen):
        raise ValueError("arms must differ; one is given twice.")
    return [presets.config(preset, arm, {**settings, "seed": seed}) for arm in chosen for seed in seeds]


def _print_memory(config: Config) -> None:
    """Prints the memory that each device needs, and which devices have it."""
    from console.terminal import Terminal, table
    from experiments.model import parameters
    from experiments.training import memory

    architecture, is_published = memory.architecture_of(config)
    needs = memory.allocations(config, architecture)
    total, mesh = sum(need.num_bytes for need in needs), config.mesh
    num_devices = mesh.data * mesh.fsdp * mesh.tensor
    terminal = Terminal()
    terminal.print(
        f"{config.preset}: {parameters.count(architecture):,} parameters"
        f"{', as published' if is_published else ''}; updates {config.arm.word}, {config.arm.optimizer}; "
        f"{config.num_pairs} pairs of up to {config.max_tokens} tokens in {config.num_parts} "
        f"part{'s' if config.num_parts > 1 else ''}; mesh data {mesh.data} x fsdp {mesh.fsdp} x tensor {mesh.tensor}, "
        f"{num_devices} device{'s' if num_devices > 1 else ''}"
    )
    content = table("on each device", numbers=["GB"])
    for need in needs:
        content.add_row(need.purpose, f"{need.num_bytes / 1e9:.2f}")
    content.add_row("in all", f"{total / 1e9:.2f}", style="bold")
    terminal.print(content)
    for gigabytes in memory.DEVICES_GB:
        fits = "fits" if memory.is_enough(gigabytes, total) else "does not fit"
        terminal.print(f"{fits} on devices of {gigabytes} GB")


def _preference_settings(source: str, settings: dict[str, object]) -> dict[str, object]:
    """The settings of a call with preference data: all rows, and no accuracy, for there are no final answers.

    Raises:
        ValueError: If there is no such file, columns cannot be read, or other data are asked for.
    """
    from experiments.data import preferences

    if "data" in settings:
        raise ValueError(f"--pairs and --data must not be given together; got {source} and {settings['data']}.")
    held_out = str(settings.get("held_out_file", ""))
    preferences.require_source("--pairs", source)
    if held_out:
        preferences.require_source("--held-out", held_out)
    if held_out and "held_out" in settings:
        raise ValueError("--held-out and --set held_out=SHARE must not be given together: a file takes no share.")
    if held_out == source:
        raise ValueError(f"--held-out must be another file than --pairs; got {source} for both.")
    preferences.columns(str(settings.get("columns", "")))
    share = {"held_out": 0.0} if held_out else {}  # of the rows of --pairs
    return {"measures.accuracy_every": 0, "num_problems": 0, **share, **settings, "data": source}


@command("run", _EPILOG)
def run(
    *,
    preset: Annotated[
        str | None, option("default: smollm2, where there is a --model;", "NAME", choices=presets.BY_NAME)
    ] = None,
    arm: Annotated[tuple[str, ...], option("an arm; may be given several times", "ARM")] = (),
    seeds: Annotated[tuple[int, ...], option("of the runs of each arm", "K,...", _seeds)] = (0,),
    out: Annotated[Path | None, option("where the runs go (default: runs/PRESET)", "DIR", output_folder)] = None,
    updates: Annotated[int | None, option("updates of a run", "N", whole(1))] = None,
    model: Annotated[str | None, option("the model's folder, or tiny", "DIR")] = None,
    data: Annotated[
        str | None, option("a folder with train.jsonl and test.jsonl, or generated, or hub", "PATH")
    ] = None,
    pairs: Annotated[
        str | None, option("preference data in place of problems: a file .jsonl or .parquet, or hub:NAME", "FILE")
    ] = None,
    columns: Annotated[
        str | None, option("the names of its columns, where they are not the usual ones", "chosen=NAME,...")
    ] = None,
    held_out: Annotated[
        str | None, option("preference data for the probe, in place of a share of --pairs", "FILE")
    ] = None,
    skip_broken: Annotated[bool, option("leave out broken rows of --pairs, counted by reason")] = False,
    rate: Annotated[float | None, option("learning rate of an accumulated update", "ETA", number())] = None,
    settings: Annotated[tuple[str, ...], option("any other value; may be repeated", "KEY=VALUE", name="--set")] = (),
    config: Annotated[
        Path | None, option("values as a JSON object, under the other options", "FILE", input_file)
    ] = None,
    dry_run: Annotated[bool, option("print the memory that each device needs, and load nothing")] = False,
    list_cells: Annotated[bool, option("print a command for each cell, and make none", name="--list")] = False,
    cluster: Cluster = NO_CLUSTER,
    processes: Processes = ALONE,
) -> int:
    """Runs of the experiment: arms times seeds."""
    modes = {"--dry-run": dry_run, "--list": list_cells, "--ray": cluster.ray}
    if len(named := [name for name, is_wanted in modes.items() if is_wanted]) > 1:
        raise CallError(f"{' and '.join(named)} must not be given together.")
    own = {"num_updates": updates, "model": model, "data": data, "learning_rate": rate, "columns": columns,
           "held_out_file": held_out, "skip_broken": skip_broken or None}  # fmt: skip
    with call_errors(ValueError):
        if preset is None and model is None:
            raise ValueError(f"--preset must be one of {', '.join(presets.BY_NAME)}, or --model must be given.")
        preset = preset or _DEFAULT_PRESET
        values = _settings(config, settings) | {key: value for key, value in own.items() if value is not None}
        if columns is not None and pairs is None:
            raise ValueError("--columns must go with --pairs, whose columns it names.")
        if pairs is None and (held_out is not None or skip_broken):
            raise ValueError(f"{'--skip-broken' if held_out is None else '--held-out'} must go with --pairs.")
        if pairs is not None:
            values = _preference_settings(pairs, values)
        wanted = _configs(preset, arm or _DEFAULT_ARMS, seeds, values)
        if dry_run:
            from experiments.training import run_set

            run_set.check_arms(wanted)
            # Arms differ by their optimizer's moments; one table of each kind says it all.
            for one in {(c.arm.optimizer, c.arm.word): c for c in wanted}.values():
                _print_memory(one)
            return 0
    if data is None and preset != "tiny" and wanted[0].data == "generated":
        print("no folder data/gsm8k: with generated problems. `fetch gsm8k`, or --data PATH.", file=sys.stderr)
    borrowed = sorted({c.arm.optimizer for c in wanted if c.arm.is_imported and "learning_rate" not in values})
    notes = [f"{name} at the rate of the preset for adamw. Give its own, with --rate." for name in borrowed]
    out = out or Path("runs") / preset
    runs = {out / c.arm.name / f"seed-{c.seed}": c for c in wanted}
    if list_cells:
        with call_errors(ValueError):
            if any(one.arm.is_imported or one.arm.objective not in arms.OBJECTIVES for one in wanted):
                from experiments.training import run_set

                run_set.check_arms(wanted)
            out.mkdir(parents=True, exist_ok=True)
            grid.add_to_list(out, {place: to_json(one) for place, one in runs.items()})
        words = ["--preset", preset, "--out", str(out), *_process_words(processes), *_setting_words(values)]
        for text in arm or _DEFAULT_ARMS:
            for seed in seeds:
                print(_command("--arm", text, "--seeds", str(seed), *words))
        return 0
    return execute(runs, processes, out, cluster, notes)


main = partial(call, run)


def _command(*words: str) -> str:
    """A command of this program as a line of a shell."""
    return shlex.join([sys.executable, "-m", "experiments", "run", *words])


def _process_words(processes: Processes) -> list[str]:
    return [word for name, value in vars(processes).items() if value is not None for word in (f"--{name}", str(value))]


def _setting_words(values: Mapping[str, object]) -> list[str]:
    """All settings of a call, those of its files and of its other options too, as --set takes them."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return [word for key, text in texts.items() for word in ("--set", f"{key}={text}")]


def execute(
    runs: Mapping[Path, Config],
    processes: Processes,
    out: Path | None = None,
    cluster: Cluster = NO_CLUSTER,
    notes: Sequence[str] = (),
) -> int:
    """Makes these runs, one after another or on a cluster; returns the exit status of the command.

    Args:
        runs: Configurations by the folders of their runs.
        processes: The place of this process among those of the runs.
        out: The folder that all runs lie in, whose list is to name them; None for one that stays as it is.
        cluster: The cluster, if they are to be made on one.
        notes: Lines for the user, once the call is known to be right.

    Raises:
        CallError: If the call cannot be carried out.
        FailureError: If something cannot be written.
    """
    if cluster.ray:
        return _execute_on_cluster(runs, processes, out, cluster)
    from experiments.training import distributed

    with call_errors(RuntimeError, ValueError):
        distributed.join(processes.coordinator, processes.processes, processes.process)
    with waiting("loading JAX"):
        from experiments.training import run_set

    with call_errors(ValueError):
        run_set.check_arms(runs.values())
    for note in notes if distributed.is_first() else ():
        print(note, file=sys.stderr, flush=True)
    if distributed.is_first() and (note := run_set.disk_note(runs)):
        print(note, file=sys.stderr, flush=True)
    # Like Ctrl-C, from here on: what has been made is left in order. The loop has a way of its own.
    with suppress(ValueError):  # not the main thread: nobody signals it
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def report(line: str, is_new: bool) -> None:
        if not is_new:
            print(line, file=sys.stderr)
        elif distributed.is_first():
            print(line, flush=True)

    try:
        is_stopped = run_set.run_all(runs, out=out, show=progress, report=report)
    except run_set.RunError as error:
        raise FailureError(str(error)) from None
    except (files.BusyError, ValueError, ModuleNotFoundError) as error:
        raise CallError(str(error).removesuffix(_OF_OTHER_COMMANDS)) from None
    return 130 if is_stopped else 0


def _execute_on_cluster(runs: Mapping[Path, Config], processes: Processes, out: Path | None, cluster: Cluster) -> int:
    from console.cluster import require

    if processes != ALONE:
        raise CallError("--ray must not be given with --coordinator, --processes or --process: a cell is one process.")
    require(cluster)
    with waiting("loading JAX"):
        import jax

        from experiments.training import cells, run_set

    jax.config.update("jax_platforms", "cpu")  # accelerators belong to the cells
    if note := run_set.disk_note(runs):
        print(note, file=sys.stderr, flush=True)

    def report(line: str, is_new: bool) -> None:
        print(line, file=None if is_new else sys.stderr, flush=True)

    with call_errors(ValueError):
        errors = cells.run_all(runs, out=out, cluster=cluster, report=report)
    if errors:
        first = str(errors[0]).removesuffix(_OF_OTHER_COMMANDS)
        is_call = any(isinstance(error, (files.BusyError, ValueError, ModuleNotFoundError)) for error in errors)
        raise (CallError if is_call else FailureError)(f"{len(errors)} of {len(runs)} runs failed; the first: {first}")
    return 0
