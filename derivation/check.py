"""`python -m derivation.check`: adjudicates the formulas of the post and the claims beyond it."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

from console.command import CallError, call, command, option, run
from console.output import write
from console.progress import progress
from console.values import output_path
from console.words import nearest
from derivation.catalogue import CATALOGUE, Entry

__all__ = ["main", "readme_with_table"]

# SymPy takes about half a second to import: it waits until something is to be proved, so that --help, --list and a
# mistyped id are answered at once.

_START, _END = "<!-- verdicts: written by `make readme` -->", "<!-- end of verdicts -->"


_EPILOG = """\
exit status: 0 if every claim is proved as made precise, every misprint and
every mutant refuted; 1 otherwise; 2 for a wrong call; 130 if interrupted.
"""


def _entries(ids: Sequence[str]) -> list[Entry]:
    known = {entry.id: entry for entry in CATALOGUE}
    for identifier in ids:
        if identifier not in known:
            raise CallError(f"no such claim: {identifier}.{nearest(identifier, known)} See --list.")
    return [known[identifier] for identifier in dict.fromkeys(ids)] or list(CATALOGUE)


def readme_with_table(text: str, table: str) -> str:
    """A Markdown text with the verdict table between its two marks replaced.

    Raises:
        ValueError: If the marks are not there, once each and in order.
    """
    if text.count(_START) != 1 or text.count(_END) != 1 or text.index(_START) > text.index(_END):
        raise ValueError(f"Markdown file must hold the marks {_START} and {_END}, once each.")
    before, rest = text.split(_START)
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    lines = f"{_START}\n{table}{_END}".replace("\n", end_of_line)
    return before + lines + rest.split(_END)[1]


@command("python -m derivation.check", _EPILOG)
def check(
    *ids: Annotated[str, option("the claims to check (default: all); see --list", name="ID")],
    list_: Annotated[bool, option("list the claims and stop", name="--list")] = False,
    explain: Annotated[bool, option("show each argument step by step, the post's line beside ours")] = False,
    json: Annotated[
        Path | None, option("write the verdicts as JSON; - for standard output", "PATH", output_path)
    ] = None,
    html: Annotated[Path | None, option("write one page with typeset formulas", "PATH", output_path)] = None,
    readme: Annotated[Path | None, option("renew the verdict table in a Markdown file", "PATH", output_path)] = None,
) -> int:
    """Proves or refutes every formula of the post, and what follows from them that the post does not say."""
    entries = _entries(ids)
    if list_:
        for entry in entries:
            print(f"{entry.id:<31} {entry.title}")
        return 0
    if html and json and html == json:
        raise CallError(f"--json and --html must go to different places; got {json} for both.")
    if readme and ids:
        raise CallError("--readme renews the whole table; leave the ids out.")
    return _run(entries, explain, json, html, readme, _text(readme) if readme else "")


def _text(readme: Path) -> str:
    """The Markdown file whose table is to be renewed, as it is, line ends included."""
    try:
        text = readme.read_bytes().decode()
        readme_with_table(text, "")
    except (OSError, ValueError) as error:
        raise CallError(f"--readme: {error}") from None
    return text


def _run(
    chosen: Sequence[Entry], explains: bool, json: Path | None, html: Path | None, readme_path: Path | None, readme: str
) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    takes_stdout = any(path is not None and str(path) == "-" for path in (json, html))
    console = Terminal(stderr=takes_stdout, soft_wrap=not explains)
    # On a terminal the bar stays below the rows; where these go to a file, progress is standard error's.
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    reports = []
    try:
        with (
            bar,
            nullcontext(lambda *_: None)
            if console.is_terminal or takes_stdout  # the rows are on standard error themselves
            else progress("checking", len(chosen), "claims", is_silent_if_quick=True) as advance,
        ):
            task = bar.add_task("loading", total=len(chosen))
            from derivation import report as reporting  # noqa: PLC0415
            from derivation.claim import examine  # noqa: PLC0415

            if not explains:
                console.print(reporting.header())
            for entry in chosen:
                advance(len(reports), entry.id)
                reports.append(
                    examine(entry, lambda what, name=entry.id: bar.update(task, description=f"{name}: {what}"))
                )
                if explains:
                    reporting.explain(reports[-1], console)
                else:
                    console.print(reporting.row(reports[-1]))
                bar.advance(task)
            advance(len(reports))
    except KeyboardInterrupt:
        console.print(f"Interrupted: {len(reports)} of {len(chosen)} claims were examined, nothing was written.")
        return 130
    console.print(reporting.summary_line(reports), soft_wrap=False)
    try:
        if json:
            write(json, reporting.as_json(reports))
        if html:
            write(html, reporting.page(reports))
        if readme_path:
            write(readme_path, readme_with_table(readme, reporting.markdown(reports)))
    except OSError as error:
        console.print(f"Could not write: {error}", style="bold red")
        return 1
    for path in (json, html, readme_path):
        if path and str(path) != "-":
            console.print(f"Wrote {path}")
    return 0 if all(report.is_in_order for report in reports) else 1


main = partial(call, check)

if __name__ == "__main__":
    sys.exit(run(main))
