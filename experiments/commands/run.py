"""`python -m experiments run`: arms times seeds, each into a folder of its own; what has ended is passed over."""

import signal
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from console.command import Parser
from console.progress import progress, waiting
from console.values import input_file, number, one_of, output_folder, whole
from experiments import arms, files, presets
from experiments.config import Config

__all__ = ["add_processes", "configs", "execute", "main"]

_DEFAULT_ARMS = ("accumulated", "sequential")


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {meaning}" for name, meaning in rows.items())


_EPILOG = f"""\
presets:
{_table({name: preset.meaning for name, preset in presets.BY_NAME.items()})}

arms (default: the post's two, accumulated and sequential):
{_table(arms.MEANINGS)}
An arm is changed by keys: "sequential-matched:optimizer=sgd". Keys and values:
{_table(arms.CHOICES)}

--set changes any other value: num_updates, num_pairs, learning_rate, rule.b2,
measures.accuracy_every, mesh.fsdp ...; --config gives many of them as JSON
({{"num_pairs": 8, "rule": {{"b2": 0.95}}}}).

Every run goes to DIR/ARM/seed-K and leaves config.json, records.jsonl and
checkpoints/. A run that has ended is passed over, one that has not is resumed:
the same command again, or `resume DIR`, which reads in DIR/runs.json the runs
that were asked for. One Ctrl-C saves and leaves.

A checkpoint holds parameters and moments, 12 bytes a parameter under AdamW. A
run at work has two, a finished one the newest: `twin` begins there. --set
keep=0 keeps none, keep=3 three and the best; the room that they take is printed
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
    add("--preset", type=one_of(tuple(presets.BY_NAME)), required=True, metavar="NAME", help=", ".join(presets.BY_NAME))
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


def configs(options: Namespace) -> list[Config]:
    """The configurations that a call asks for, arm by arm and seed by seed.

    Raises:
        OSError: If the file of settings cannot be read.
        ValueError: If a name is not known, or a value of another type or out of range.
    """
    settings: dict[str, object] = {}
    if options.config is not None:
        for key, value in files.read_object(options.config).items():
            inner = value if isinstance(value, dict) else {}
            settings |= {f"{key}.{name}": leaf for name, leaf in inner.items()} or {key: value}
    for item in options.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE; got {item[:60]}.")
        settings[key.strip()] = value.strip()
    own = {"num_updates": options.updates, "model": options.model, "data": options.data, "learning_rate": options.rate}
    settings |= {key: value for key, value in own.items() if value is not None}
    if "data" not in settings and not Path(presets.config(options.preset).data).is_dir():
        settings["data"] = "generated"  # `main` says so
    for key in settings:
        if key in ("preset", "seed") or key.split(".")[0] == "arm":
            option = {"preset": "--preset", "seed": "--seeds"}.get(key, "--arm NAME:key=value")
            raise ValueError(f"{key} must be given by {option}.")
    chosen = [arms.parse(text) for text in options.arm or _DEFAULT_ARMS]
    if len({arm.name for arm in chosen}) < len(chosen):
        raise ValueError("arms must differ; one is given twice.")
    return [presets.config(options.preset, arm, {**settings, "seed": seed}) for arm in chosen for seed in options.seeds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    options = parser.parse(arguments)
    try:
        wanted = configs(options)
        if options.dry_run:
            from experiments.training import memory

            # Arms differ by their optimizer's moments; one line of each kind says it all.
            for config in {(c.arm.optimizer, c.arm.update): c for c in wanted}.values():
                memory.show(config)
            return 0
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if options.data is None and options.preset != "tiny" and wanted[0].data == "generated":
        print("no folder data/gsm8k: with generated problems. `fetch gsm8k`, or --data PATH.", file=sys.stderr)
    out: Path = options.out or Path("runs") / options.preset
    return execute(parser, {out / c.arm.name / f"seed-{c.seed}": c for c in wanted}, options, out)


def execute(parser: Parser, runs: Mapping[Path, Config], options: Namespace, out: Path | None = None) -> int:
    """Makes these runs one after another; returns the exit status of the command.

    Args:
        parser: Of the command.
        runs: Configurations by the folders of their runs.
        options: Of `add_processes`.
        out: The folder that all runs lie in, whose list is to name them; None for one that stays as it is.
    """
    from experiments.training import distributed

    try:
        distributed.join(options.coordinator, options.processes, options.process)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    with waiting("loading JAX"):
        from experiments.training import run_set

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
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except (files.BusyError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error).removesuffix(" Skip such lines with --skip-broken."))  # an option of other commands
    return 130 if is_stopped else 0
