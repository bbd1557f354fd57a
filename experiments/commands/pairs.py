"""`python -m experiments pairs`: right and wrong solutions to the same problems, each pair checked, with counts."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from console.command import CallError, command, option
from console.output import write
from console.values import one_of, output_path, whole
from experiments.data.gsm8k import Split
from experiments.pairs.check import KINDS, Kind

if TYPE_CHECKING:
    from rich.text import Text

    from console.terminal import Terminal

__all__ = ["diff", "pairs"]

_EPILOG = """\
One step of every solution is made wrong, and the error carried through every
later step to the final answer. The kinds of error:
  result-slip        18*3=64       the arithmetic is right but for the result
  wrong-operator     18+3=21       a plus for a times
  wrong-operand      18*4=72       a number from elsewhere in the problem
  swapped-quantity   40-8 for 8-40 two numbers in each other's place (rarely
                     possible: the result would be negative or broken)
  dropped-step       a step is missing, and one of its numbers stands for its
                     result
A line of the solution that contradicts itself is left as it is: an annotation
that is not what is written in front of it, or a false equation.
A check, which shares nothing but arithmetic with the code that makes the pairs,
reads each of them again; pairs that it objects to are left out and counted.
FILE gets one line for each pair: id, question, preferred, dispreferred, gold,
wrong, kind, step, num_steps, old, new. The same seed gives the same pairs.

examples:
  python -m experiments pairs --data data/gsm8k --seed 0 --out pairs.jsonl
  python -m experiments pairs --data generated --limit 1000 --out pairs.jsonl
  python -m experiments pairs --data taught --kinds result-slip --out slips

exit status: 0, 2 for a call that cannot be carried out.
"""
_PART = re.compile(r"[0-9]+(?:[,.][0-9]+)*|\w+|\s+|.")


def diff(before: str, after: str) -> list[tuple[str, bool]]:
    """The parts of the second text, each with whether it differs from the first."""
    old, new = _PART.findall(before), _PART.findall(after)
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [("".join(new[start:end]), tag != "equal") for tag, _, _, start, end in opcodes if start < end]


def _highlight(parts: Sequence[tuple[str, bool]], is_coloured: bool) -> "Text":
    from rich.text import Text

    line = Text()
    for text, is_changed in parts:
        if is_changed and not is_coloured:
            line.append(f"[{text}]")
        else:
            line.append(text, "bold red" if is_changed else "")
    return line


def _show(terminal: "Terminal", record: dict[str, str | int]) -> None:
    """One pair, side by side."""
    from rich.table import Table

    terminal.print(
        f"\n{record['id']}: {record['kind']} in step {record['step']} of {record['num_steps']}: {record['old']} became "
        f"{record['new']}"
    )
    terminal.print(str(record["question"]))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=True)
    table.add_column("preferred", ratio=1)
    table.add_column("dispreferred", ratio=1)
    right, wrong = (str(record[side]).splitlines() for side in ("preferred", "dispreferred"))
    if record["kind"] == "dropped-step":
        # Laid beside what is left of the right one, so that only what changed is marked.
        matcher = SequenceMatcher(None, [_masked(line) for line in right], [_masked(line) for line in wrong])
        rows = [
            pair
            for _, a, b, c, d in matcher.get_opcodes()
            for pair in zip_longest(right[a:b], wrong[c:d], fillvalue="")
        ]
    else:
        rows = list(zip(right, wrong, strict=True))
    for a, b in rows:
        sides = [diff(b, a), diff(a, b)] if b else [[(a, True)], [("", False)]]
        table.add_row(*(_highlight(parts, terminal.is_terminal) for parts in sides))
    terminal.print(table)


def _masked(line: str) -> str:
    return re.sub(r"[0-9][0-9,.]*", "0", line)


def _kinds(value: str) -> tuple[str, ...]:
    check = one_of(KINDS)
    return tuple(dict.fromkeys(check(kind) for kind in value.split(",")))


@command("pairs", _EPILOG)
def pairs(
    *,
    data: Annotated[str, option("a folder with train.jsonl, or generated, or hub", "PATH")],
    split: Annotated[Split, option(metavar="NAME")] = "train",
    seed: Annotated[int, option("of the errors, and of generated problems", "K", whole(0))] = 0,
    out: Annotated[Path, option("JSONL to write; - for standard output", "FILE", output_path)],
    limit: Annotated[int | None, option("only the first N problems", "N", whole(1))] = None,
    kinds: Annotated[tuple[Kind, ...], option("of error; default: all of", "KIND,...", _kinds)] = (),
    last_step: Annotated[bool, option("alter the last step as well: then nothing but the answer is carried")] = False,
    skip_broken: Annotated[bool, option("pass over lines of the data that are no problem")] = False,
    show: Annotated[int, option("pairs to show side by side", "N", whole(0))] = 3,
) -> int:
    """Right and wrong solutions to the same problems."""
    from console.progress import progress
    from console.terminal import Terminal
    from experiments.data import data_sources
    from experiments.pairs import check, corruption

    skipped: list[str] | None = [] if skip_broken else None
    if str(out) != "-" and out.exists() and out.resolve().parent == Path(data).resolve():
        raise CallError(f"--out must not be a file of the data; got {out}.")
    try:
        problems = list(data_sources.problems(data, split, limit=limit, seed=seed, skipped=skipped))
        if not problems:
            raise ValueError(f"--data must hold a problem; {data} has none in its {split} split")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise CallError(str(error)) from None
    records: list[dict[str, str | int]] = []
    refused: Counter[str] = Counter()
    objections: Counter[str] = Counter()
    with progress("pairing", len(problems), "problems") as advance:
        for place, problem in enumerate(problems, start=1):
            pair = corruption.corrupt(problem, seed=seed, kinds=kinds or KINDS, last_step=last_step)
            if isinstance(pair, corruption.Refusal):
                refused[pair.reason] += 1
            elif faults := check.findings(pair.record()):
                objections[faults[0].id] += 1
            else:
                records.append(pair.record())
            advance(place)
    write(out, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    terminal = Terminal(stderr=str(out) == "-")
    for message in skipped or ():
        terminal.print(f"skipped: {message}")
    # Spread over the file, so that they are not all of the first kind of problem.
    every = max(len(records) // show, 1) if show else 1
    for record in records[::every][:show]:
        _show(terminal, record)
    _report(terminal, len(problems), records, refused, objections)
    if str(out) != "-":
        terminal.print(f"\nwrote {len(records)} pairs to {out}", soft_wrap=True)
    return 0


def _report(
    terminal: "Terminal",
    num_problems: int,
    records: Sequence[dict[str, str | int]],
    refused: Counter[str],
    objections: Counter[str],
) -> None:
    from rich.table import Table

    num_wrong = len(records) + objections.total()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("", "problems", "share"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)

    def row(name: str, count: int, of: int) -> None:
        table.add_row(name, f"{count:,}", f"{count / of:.1%}" if of else "-")

    kinds = Counter(str(record["kind"]) for record in records)
    row("problems", num_problems, num_problems)
    row("made wrong", num_wrong, num_problems)
    row("  objected to by the auditor, of these", objections.total(), num_wrong)
    for name, count in objections.most_common():
        row(f"    {name}", count, num_wrong)
    row("pairs", len(records), num_problems)
    for kind in KINDS:
        row(f"  {kind}", kinds[kind], num_problems)
    row("left out", refused.total(), num_problems)
    for reason, count in refused.most_common():
        row(f"  {reason}", count, num_problems)
    terminal.print()
    terminal.print(table)
