"""Verdicts as a table in the terminal, as JSON, as Markdown for the README, and as one self-contained page.

Reads reports and writes text; it decides nothing.
"""

import json
import platform
import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from derivation.catalogue import POST
from derivation.claim import Report, StatementReport
from derivation.plain import plain, plain_text
from derivation.witness import Witness

__all__ = ["as_json", "explain", "header", "markdown", "page", "row", "summary", "summary_line", "versions"]

_WIDTHS = {"claim": 31, "as printed": 11, "made precise": 13, "mutants": 9, "seconds": 8}
_COLOURS = {"proved": "green", "refuted": "yellow", "undecided": "red", "error": "bold red"}


def header() -> Text:
    """The head of the verdict table; 72 columns, like the rows."""
    return Text("".join(name.ljust(width) for name, width in _WIDTHS.items()).rstrip(), style="bold")


def row(report: Report) -> Text:
    """One claim as a line of the verdict table.

    A status is red where it is not the one that the claim asserts, and named in full on a line of its own.
    """
    printed = report.printed_status
    printed_ok = report.printed is None or report.printed.is_as_expected
    mutants_ok = bool(report.mutants) and report.num_mutants_refuted == len(report.mutants)
    line = Text(report.entry.id.ljust(_WIDTHS["claim"]))
    line.append(
        (printed or "-").ljust(_WIDTHS["as printed"]), _COLOURS.get(printed or "", "dim") if printed_ok else "bold red"
    )
    line.append(
        report.precise_status.ljust(_WIDTHS["made precise"]),
        "green" if report.precise_status == "proved" else "bold red",
    )
    line.append(
        f"{report.num_mutants_refuted}/{len(report.mutants)}".ljust(_WIDTHS["mutants"]),
        "" if mutants_ok else "bold red",
    )
    line.append(f"{report.seconds:.2f}".rjust(5))
    for trouble in _troubles(report):
        line.append(f"\n  {trouble}", "red")
    return line


def _troubles(report: Report) -> list[str]:
    """What came out other than the claim asserts, in words."""
    if report.failure:
        return [report.failure]
    troubles = []
    parts = ([("as printed", report.printed)] if report.printed else []) + [
        (f"statement {i}", part) for i, part in enumerate(report.precise, start=1)
    ]
    for name, part in parts:
        if not part.is_as_expected:
            verdict = part.verdict
            troubles.append(f"{name}: {verdict.status}, expected {part.statement.expected}. {verdict.reason}".rstrip())
    troubles += [
        f"mutant not refuted ({verdict.status}): {name}"
        for name, verdict in report.mutants
        if verdict.status != "refuted"
    ]
    if not report.mutants:
        troubles.append("no mutants")
    return troubles


def summary(reports: Sequence[Report]) -> dict[str, int | float | bool]:
    """The counts over all claims."""
    printed = [report for report in reports if report.printed]
    return {
        "claims": len(reports),
        "in_order": sum(report.is_in_order for report in reports),
        "printed": len(printed),
        "printed_proved": sum(report.printed_status == "proved" for report in printed),
        "printed_refuted": sum(report.printed_status == "refuted" for report in printed),
        "made_precise_proved": sum(report.precise_status == "proved" for report in reports),
        "mutants": sum(len(report.mutants) for report in reports),
        "mutants_refuted": sum(report.num_mutants_refuted for report in reports),
        "seconds": round(sum(report.seconds for report in reports), 2),
        "all_in_order": all(report.is_in_order for report in reports),
    }


def summary_line(reports: Sequence[Report]) -> str:
    """The counts in a line."""
    counts = summary(reports)
    printed = (
        f"The post: {counts['printed_proved']} of {counts['printed']} true as printed. " if counts["printed"] else ""
    )
    return (
        f"{printed}Made precise: {counts['made_precise_proved']} of {counts['claims']} proved."
        f" Mutants: {counts['mutants_refuted']} of {counts['mutants']} refuted. {counts['seconds']:.1f} s."
    )


def versions() -> dict[str, str]:
    """The versions that the verdicts were reached with."""
    return {
        "composite-updates": version("composite-updates"),
        "sympy": version("sympy"),
        "python": platform.python_version(),
    }


def _witness(witness: Witness | None) -> dict[str, str] | None:
    return None if witness is None else {"setting": witness.setting, "left": witness.left, "right": witness.right}


def _statement(part: StatementReport) -> dict[str, object]:
    return {
        "statement": part.statement.latex,
        "reading": part.statement.reading,
        "status": part.verdict.status,
        "expected": part.statement.expected,
        "witness": _witness(part.verdict.witness),
        "reason": part.verdict.reason,
    }


def _claim(report: Report) -> dict[str, object]:
    claim = report.claim
    printed = report.printed
    return {
        "id": report.entry.id,
        "title": report.entry.title,
        "source": report.entry.source,
        "statement": _headline(report),
        "finding": claim.finding if claim else report.failure,
        "as_printed": {
            "status": report.printed_status,
            "witness": _witness(printed.verdict.witness) if printed else None,
        },
        "made_precise": {
            "status": report.precise_status,
            "statement": report.precise[0].statement.latex if report.precise else None,
            "statements": [_statement(part) for part in report.precise],
        },
        "assumptions": list(claim.assumptions) if claim else [],
        "method": claim.method if claim else None,
        "mutants": {"total": len(report.mutants), "refuted": report.num_mutants_refuted},
        "in_order": report.is_in_order,
        "seconds": round(report.seconds, 3),
    }


def _headline(report: Report) -> str | None:
    """The formula that a claim is about, in LaTeX: the post's line where there is one."""
    if report.claim is None:
        return None
    if report.claim.post_line:
        return report.claim.post_line
    return report.printed.statement.latex if report.printed else report.precise[0].statement.latex


def as_json(reports: Sequence[Report]) -> str:
    """All verdicts as JSON text."""
    content = {"claims": [_claim(report) for report in reports], "summary": summary(reports), "versions": versions()}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


# --- terminal, in words --------------------------------------------------------------------------------------------


def explain(report: Report, console: Console) -> None:
    """Prints the argument of a claim step by step, the post's line beside ours."""
    console.print(Rule(f"{report.entry.id}: {report.entry.title}", align="left"))
    claim = report.claim
    if claim is None:
        console.print(Text(report.failure, style="bold red"))
        return
    console.print(Text(claim.finding, style="bold"))
    console.print(Text(f"{report.entry.source}. Method: {claim.method}.", style="dim"))
    if claim.post_line:
        lines = Table.grid(padding=(0, 2), expand=True)
        lines.add_column(ratio=1, overflow="fold")
        lines.add_column(ratio=1, overflow="fold")
        lines.add_row(Text("the post", style="bold"), Text("made precise", style="bold"))
        lines.add_row(Text(plain(claim.post_line)), Text(plain(report.precise[0].statement.latex)))
        console.print(Padding(lines, (1, 0)))
    for i, paragraph in enumerate(claim.argument, start=1):
        _hanging(console, f"{i}. ", _emphasised(plain_text(paragraph)))
    console.print()
    if report.printed:
        _print_statement(console, "as printed", report.printed)
    for part in report.precise:
        _print_statement(console, "" if part.statement.expected == "proved" else "does not hold", part)
    for assumption in claim.assumptions:
        _hanging(console, "assumes ", Text(plain_text(assumption), style="dim"))
    _hanging(console, "mutants ", Text(f"{report.num_mutants_refuted} of {len(report.mutants)} refuted", style="dim"))
    console.print()


def _emphasised(text: str) -> Text:
    result = Text()
    for i, part in enumerate(text.split("*")):
        result.append(part, "italic" if i % 2 else "")
    return result


def _hanging(console: Console, label: str, text: Text) -> None:
    grid = Table.grid()
    grid.add_column(width=len(label))
    grid.add_column(overflow="fold")
    grid.add_row(label, text)
    console.print(grid)


def _print_statement(console: Console, name: str, part: StatementReport) -> None:
    verdict, statement = part.verdict, part.statement
    colour = ("green" if verdict.status == "proved" else "yellow") if part.is_as_expected else "bold red"
    body = Text()
    if name:
        body.append(f"{name}: ", "bold")
    body.append(plain(statement.latex))
    if statement.reading:
        body.append(f"\n({statement.reading})", "dim")
    if verdict.witness:
        witness = verdict.witness
        body.append(f"\nat {witness.setting}: true {witness.left}, claimed {witness.right}", "yellow")
    if verdict.reason:
        body.append(f"\n{verdict.reason}", "red")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=10)
    grid.add_column(overflow="fold")
    grid.add_row(Text(verdict.status, style=colour), body)
    console.print(grid)


# --- Markdown and HTML ---------------------------------------------------------------------------------------------


def markdown(reports: Iterable[Report]) -> str:
    """The verdict table of the README: no timings, so that it changes only when a verdict does."""
    lines = ["| claim | as printed | made precise | what is true |", "|---|---|---|---|"]
    for report in reports:
        finding = report.claim.finding if report.claim else report.failure
        finding = finding.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_")
        lines.append(f"| `{report.entry.id}` | {report.printed_status or ''} | {report.precise_status} | {finding} |")
    return "\n".join(lines) + "\n"


@cache
def _mathml(latex: str) -> str:
    from latex2mathml.converter import convert  # noqa: PLC0415  (only the page needs it)

    return convert(latex)


def _formula(latex: str) -> str:
    """A formula on lines of its own: MathML does not break lines, so every term is an element that may wrap."""
    # The empty group in front makes a sign at the head of a line a binary one, with space after it.
    return " ".join(_mathml(rf"\displaystyle {{}}{part}") for part in _lines(latex))


def _lines(latex: str) -> list[str]:
    """A formula cut where a line may break: before +, - and = outside of all brackets and groups."""
    latex = latex.replace(r"\allowbreak", "")
    pieces, depth, start = [], 0, 0
    for token in _TOKENS.finditer(latex):
        text = token.group()
        if text.startswith(r"\left") or text in "{[(":
            depth += 1
        elif text.startswith(r"\right") or text in "}])":
            depth -= 1
        elif depth == 0 and latex[start : token.start()].strip()[-1:] not in ("", "=", "^", "_"):
            pieces.append(latex[start : token.start()])
            start = token.start()
    return [piece.strip() for piece in (*pieces, latex[start:]) if piece.strip()]


_TOKENS = re.compile(r"\\(?:left|right)\s*(?:\\.|.)|[-+={}()\[\]]")
# A delimiter belongs to its \left or \right, and is not counted once more.


def _prose(paragraph: str) -> str:
    """A paragraph with formulas between dollar signs, as HTML."""
    parts = []
    for i, part in enumerate(paragraph.split("$")):
        if i % 2:
            parts.append(_mathml(part))
        else:
            pieces = escape(part, quote=False).split("*")
            parts.append("".join(f"<em>{piece}</em>" if j % 2 else piece for j, piece in enumerate(pieces)))
    return "".join(parts)


def page(reports: Sequence[Report]) -> str:
    """All verdicts as one HTML page with typeset formulas: no script, no network, no other file."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "formula": _formula,
        "prose": _prose,
    }
    template = environment.from_string(Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8"))
    sections: dict[str, list[Report]] = {}
    for report in reports:
        source = report.entry.source
        name = source.removeprefix(POST) if source.startswith(POST) else "Beyond the post"
        sections.setdefault(name, []).append(report)
    return template.render(sections=sections, sentence=summary_line(reports), versions=versions())
