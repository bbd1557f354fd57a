"""`python -m experiments run`: arms times seeds, each into a folder of its own; what is finished is passed over."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, write
from console.values import input_file, number, one_of, output_folder, whole

if TYPE_CHECKING:
    from argparse import Namespace

    from experiments.config import Config

__all__ = ["LIST", "PRESETS", "add_processes", "carried_out", "configs", "main"]

PRESETS = ("tiny", "smollm2", "llama3-8b")  # named here so that --help is answered without the rest; tests compare
LIST = "runs.json"  # in --out: all runs that were asked for there, so that `resume` knows those that never began
_OF_THE_DISK = ("checkpoint_every", "keep")  # values that may change as a run is gone on with: nothing computed does
_MUCH = 10**8  # bytes of checkpoints that are said before they are written
DEFAULT_ARMS = ("accumulated", "sequential")

_EPILOG = """\
presets:
  tiny       random parameters of two layers, generated problems: seconds
  smollm2    SmolLM2-135M-Instruct and GSM8K: 20 seconds an update on two cores
  llama3-8b  the post's setting; --dry-run first

arms (default: the post's two, accumulated and sequential):
  accumulated             one step on the mean of both halves, rate eta
  sequential              preferred, then dispreferred, rate eta/sqrt(2)
  sequential-matched      rate eta/2, the first-order match of gradient descent
  sequential-full-rate    rate eta
  sequential-sqrt-rule    eta/sqrt(2) with Adam's decays and epsilon rescaled
  sequential-minus-first  sequential-random-start
  accumulated-plus-term   with the term that the sequential arm adds, explicitly
  accumulated-minus-term  with its opposite
  preferred-only          without the dispreferred half
An arm is changed by keys: "sequential-matched:optimizer=sgd". Keys: update,
first, sides, rate, optimizer (sgd, heavy-ball, adamw, frozen-adamw), clipping
(none, update, step), decay (step, update), reduction (token-union, token-half,
sequence, sum), term.

--set changes any other value: num_updates, num_pairs, learning_rate, rule.b2,
measures.accuracy_every, mesh.fsdp ...; --config gives many of them as JSON
({"num_pairs": 8, "rule": {"b2": 0.95}}).

Every run goes to DIR/ARM/seed-K and leaves config.json, records.jsonl and
checkpoints/. What is finished there is passed over, what is not is gone on
with: the same command again, or `resume DIR`, which reads in DIR/runs.json
the runs that were asked for. One Ctrl-C saves and leaves.

A checkpoint holds parameters and moments, 12 bytes a parameter under AdamW. A
run that is made has two, a finished one the newest: `twin` begins there. --set
keep=0 keeps none, keep=3 three and the best; the room that they take is said
before anything is loaded.

examples:
  python -m experiments run --preset tiny --out runs/tiny
  python -m experiments run --preset smollm2 --arm accumulated --arm sequential
    --arm sequential-matched --seeds 0,1,2 --out runs/smollm2
  python -m experiments run --preset llama3-8b --dry-run

exit status: 0, also where a run ends because a value is not finite (its last
line says so); 1 where something could not be written; 2 for a call that cannot
be carried out; 130 where it is stopped.
"""


def _seeds(value: str) -> tuple[int, ...]:
    check = whole(0, 2**32 - 1)
    return tuple(dict.fromkeys(check(part) for part in value.split(",")))


def _parser() -> Parser:
    parser = Parser("python -m experiments run", "Runs of the experiment: arms times seeds.", _EPILOG)
    add = parser.add_argument
    add("--preset", type=one_of(PRESETS), required=True, metavar="NAME", help=", ".join(PRESETS))
    add("--arm", action="append", metavar="ARM", help="an arm; may be given several times")
    add("--seeds", type=_seeds, default=(0,), metavar="K,...", help="default: 0")
    add("--out", type=output_folder, metavar="DIR", help="where the runs go (default: runs/PRESET)")
    add("--updates", type=whole(1), metavar="N", help="updates of a run")
    add("--model", metavar="DIR", help="the model's folder, or tiny")
    add("--data", metavar="PATH", help="a folder with train.jsonl and test.jsonl, or generated, or hub")
    add("--rate", type=number(), metavar="ETA", help="learning rate of an accumulated update")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any other value; may be repeated")
    add("--config", type=input_file, metavar="FILE", help="values as a JSON object, under the other options")
    add("--dry-run", action="store_true", help="print the memory that each device needs, and load nothing")
    add_processes(parser)
    return parser


def add_processes(parser: Parser) -> None:
    """The options of a run on several processes, `distributed.join`'s."""
    add = parser.add_argument
    add("--coordinator", metavar="HOST:PORT", help="of a run on several processes; auto under Slurm and the like")
    add("--processes", type=whole(1), metavar="N", help="how many there are")
    add("--process", type=whole(0), metavar="I", help="which of them this is, from 0")


def configs(options: "Namespace") -> "list[Config]":
    """The configurations that a call asks for, arm by arm and seed by seed.

    Raises:
        OSError: If the file of settings cannot be read.
        TypeError: If a value is of another type.
        ValueError: If a name is not known or a value out of range.
    """
    from experiments import (  # noqa: PLC0415
        arms,
        config,
        jsonl,
    )

    settings: dict[str, object] = {}
    if options.config is not None:
        settings |= _flat(jsonl.read_object(options.config))
    for item in options.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE; got {item[:60]}.")
        settings[key.strip()] = value.strip()
    for key, value in (("num_updates", options.updates), ("model", options.model), ("data", options.data)):
        if value is not None:
            settings[key] = value
    if options.rate is not None:
        settings["learning_rate"] = options.rate
    if "data" not in settings and not Path(config.preset(options.preset).data).is_dir():
        settings["data"] = "generated"  # `main` says so
    for key in settings:
        if key in ("preset", "seed") or key.split(".")[0] == "arm":
            option = {"preset": "--preset", "seed": "--seeds"}.get(key, "--arm NAME:key=value")
            raise ValueError(f"{key} must be given by {option}.")
    chosen = [arms.parse(text) for text in options.arm or DEFAULT_ARMS]
    if len({arm.name for arm in chosen}) < len(chosen):
        raise ValueError("arms must differ; one is given twice.")
    return [
        config.with_settings(config.preset(options.preset, arm), {**settings, "seed": seed})
        for arm in chosen
        for seed in options.seeds
    ]


def _flat(given: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in given.items():
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": leaf for inner, leaf in value.items()}
        else:
            found[key] = value
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    options = parser.parse(arguments)
    try:
        wanted = configs(options)
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    if options.dry_run:
        return _dry_run(parser, wanted)
    if options.data is None and options.preset != "tiny" and wanted[0].data == "generated":
        print("no folder data/gsm8k: with generated problems. `fetch gsm8k`, or --data PATH.", file=sys.stderr)
    out: Path = options.out or Path("runs") / options.preset
    return carried_out(parser, {out / c.arm.name / f"seed-{c.seed}": c for c in wanted}, options, out)


def carried_out(parser: Parser, runs: "dict[Path, Config]", options: "Namespace", out: Path | None = None) -> int:
    """Makes these runs one after another, sharing what they share; returns the exit status of the command.

    Args:
        parser: Of the command.
        runs: Configurations by the folders of their runs.
        options: Of `add_processes`.
        out: The folder that all runs lie in, whose list is to name them; None for one that is left as it is.
    """
    from experiments.training import distributed  # noqa: PLC0415

    try:
        distributed.join(options.coordinator, options.processes, options.process)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))

    from console.progress import progress, waiting  # noqa: PLC0415

    with waiting("loading JAX"):
        from experiments import config, jsonl, locking  # noqa: PLC0415
        from experiments.training import checkpoint, inputs, loop, records  # noqa: PLC0415

    if distributed.is_first():
        _say_disk(runs)
    # Like Ctrl-C, from here on: what has been made is left in order. The loop has a way of its own.
    with suppress(ValueError):  # not the main thread: nobody signals it
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    shared: tuple[object, inputs.Materials] | None = None
    for folder, wanted in runs.items():
        try:
            with _made(folder), distributed.first_alone(folder):
                path, lines = folder / "config.json", folder / loop.RECORDS
                content = config.to_json(wanted)
                if path.is_file() and (differing := _differing(jsonl.read_object(path), content)):
                    raise ValueError(f"{folder} must be a run of this configuration; {differing}. Give another --out.")
                if lines.is_file() and not path.is_file():
                    raise ValueError(f"{folder} must have its config.json: records without it are of no known run.")
                end = records.end(lines) if lines.is_file() else None
                if end is not None and end["reason"] != "stopped":
                    loop.tidy(folder, wanted)
                    print(f"{folder}: {end['message']} (nothing to do)", file=sys.stderr)
                    continue
                if distributed.is_first() and not path.is_file():
                    for unfinished in folder.glob(f".{path.name}.*"):  # of a start that was killed as it wrote it
                        unfinished.unlink()
                    if foreign := sorted(entry.name for entry in folder.iterdir()):
                        raise ValueError(f"{folder} must be empty or a run; it holds {', '.join(foreign[:4])}.")
                key = inputs.shared_key(wanted)
                if shared is None or shared[0] != key:
                    shared = None  # before the next one is loaded
                    try:
                        shared = key, inputs.prepared(wanted, progress)
                    except OSError as error:
                        parser.error(str(error))
                given = shared[1]
                source = loop.source_of(wanted, given)
                # Not before model and data are found and enough: what is wrong would have become that of the run.
                if distributed.is_first() and (not path.is_file() or jsonl.read_object(path) != content):
                    write(path, _json(content))
                if distributed.is_first() and out is not None:
                    _add_to_list(out, runs)
                out = None
                ending = loop.run(wanted, given, folder, header=distributed.header(given), show=progress, source=source)
        except (locking.BusyError, checkpoint.DamagedError, ValueError, ModuleNotFoundError) as error:
            parser.error(str(error).removesuffix(" Skip such lines with --skip-broken."))  # an option of other commands
        except OSError as error:
            print(f"{parser.prog}: {folder}: {error}. What was saved before is whole.", file=sys.stderr)
            return 1
        if distributed.is_first():
            print(f"{folder}: {ending.message}", flush=True)
        if ending.is_stop_wanted:
            return 130
    return 0


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder with those above it; those that are new and still empty when something fails are removed."""
    from experiments import locking  # noqa: PLC0415

    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except locking.BusyError:
        raise  # what is empty is so for now: another run has just begun there
    except BaseException:
        for path in missing:
            with suppress(OSError):  # something is in it
                path.rmdir()
        raise


def _add_to_list(out: Path, runs: "dict[Path, Config]") -> None:
    from experiments import config, jsonl  # noqa: PLC0415

    path = out / LIST
    listed = jsonl.read_object(path) if path.is_file() else {}
    names = {folder.relative_to(out).as_posix(): config.to_json(wanted) for folder, wanted in runs.items()}
    if listed != (extended := {**listed, **names}):
        write(path, _json(extended))


def _say_disk(runs: "dict[Path, Config]") -> None:
    """Says the room that the checkpoints of runs take that have not ended, where it is much."""
    import shutil  # noqa: PLC0415

    from experiments.training import loop, memory, records  # noqa: PLC0415

    wanted = []
    for folder, config in runs.items():
        lines = folder / loop.RECORDS
        try:
            end = records.end(lines) if lines.is_file() else None
            if end is None or end["reason"] == "stopped":
                wanted.append((config, memory.architecture_of(config)[0]))
        except (OSError, ValueError):
            continue  # where it is made the error is told
    disk = memory.disk(wanted)
    if disk.most < _MUCH:
        return
    parents = [path for path in next(iter(runs)).resolve().parents if path.is_dir()]
    free = shutil.disk_usage(parents[0]).free
    print(
        f"checkpoints: {memory.size(disk.most)} of the disk while the runs are made, {memory.size(disk.left)} when all "
        f"have finished (--set keep=K); {memory.size(free)} are free{' and NOT ENOUGH' if free < disk.most else ''}",
        file=sys.stderr,
        flush=True,
    )


def _json(content: dict[str, object]) -> str:
    import json  # noqa: PLC0415

    return json.dumps(content, indent=2) + "\n"


def _differing(before: dict[str, object], now: dict[str, object], where: str = "") -> str:
    """The first value in which two configurations differ that decides what is computed, in words; empty if none."""
    for key in {**before, **now}:
        if not where and key in _OF_THE_DISK:
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if inner := _differing(old, new, f"{where}{key}."):
                return inner
        elif old != new:
            return f"{where}{key} was {old}, not {new}"
    return ""


def _dry_run(parser: Parser, wanted: "list[Config]") -> int:
    from experiments.training import memory  # noqa: PLC0415

    try:
        # Arms differ by their optimizer's moments; one line of each kind says it all.
        seen = {(c.arm.optimizer, c.arm.update): c for c in wanted}
        for c in seen.values():
            memory.show(c)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0
