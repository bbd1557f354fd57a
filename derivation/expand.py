"""`python -m derivation.expand`: the expansion of a schedule of one's own."""

import argparse
import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from console.command import Parser, output_path, run, write

if TYPE_CHECKING:
    from derivation.series import Schedule, Series
    from derivation.trees import Label, Tree

__all__ = ["as_json", "as_latex", "expansion", "main"]

_FRAMES = ("none", "accumulated", "pair-accumulated", "gradient-flow")
_EPILOG = """\
The printed sum is the displacement theta_m - theta after one gradient-descent step per letter, in powers of the step
size eps. Ascent on a loss is descent on its negative. Notation: g[a] gradient, H[a] Hessian, T[a] third derivative of
loss a, D4[a] the fourth and so on, all at the start point.

frames (what is subtracted):
  accumulated        one step on everything, all gradients read at the start
  pair-accumulated   one accumulated step for every two letters
  gradient-flow      the exact flow of the same losses, each for as long as its steps are

examples:
  python -m derivation.expand --schedule=-+-+ --order 3
  python -m derivation.expand --schedule kl,reward,kl --step-sizes 1/2,1,1/2
  python -m derivation.expand --schedule=-+ --frame accumulated --latex
  python -m derivation.expand --schedule=-++- --modified-field
"""


def expansion(schedule: "Schedule", order: int, frame: str = "none") -> "Series":
    """The displacement of a schedule, or its drift relative to a frame.

    Args:
        schedule: The steps.
        order: The highest power of the step size.
        frame: "none", "accumulated", "pair-accumulated" or "gradient-flow".

    Raises:
        ValueError: If the frame needs pairs and the number of steps is odd, or `order` is smaller than 1.
    """
    from derivation.averages import PLAIN  # noqa: PLC0415
    from derivation.frames import accumulated, flow  # noqa: PLC0415
    from derivation.series import compose  # noqa: PLC0415

    displacement = compose(schedule, order)
    match frame:
        case "accumulated":
            return displacement - accumulated(schedule, order)
        case "pair-accumulated":
            return displacement - accumulated(schedule, order, group=2)
        case "gradient-flow":
            return displacement - flow(displacement.of_order(1), PLAIN, order)
        case _:
            return displacement


def as_json(schedule: "Schedule", order: int, frame: str, series: "Series") -> str:
    """An expansion as JSON text."""
    from derivation.trees import text  # noqa: PLC0415

    def node(t: "Tree") -> dict[str, object]:
        return {"loss": str(t.loss), "children": [node(child) for child in t.children]}

    content = {
        "schedule": str(schedule),
        "step_sizes": [str(size) for size in schedule.step_sizes],
        "order": order,
        "frame": frame,
        "terms": [{"tree": node(t), "coefficient": str(c), "text": text(t)} for t, c in series.items()],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_latex(series: "Series") -> str:
    """An expansion as a LaTeX sum, one line per power of the step size, for an `align` environment."""
    from derivation.trees import latex, num_vertices  # noqa: PLC0415

    lines = []
    for power in sorted({num_vertices(t) for t in series}):
        terms = [f"{_signed(c)}{latex(t, _subscript)}" for t, c in series.of_order(power).items()]
        step = r"\varepsilon" if power == 1 else rf"\varepsilon^{{{power}}}"
        lines.append(rf"&{'+' if lines else ''}{step}\left({' '.join(terms).removeprefix('+')}\right)")
    return " \\\\\n".join(lines or ["&0"]) + "\n"


def _signed(coefficient: object) -> str:
    assert isinstance(coefficient, Fraction)
    sign, size = "-" if coefficient < 0 else "+", abs(coefficient)
    if size == 1:
        return sign
    number = str(size) if size.denominator == 1 else rf"\tfrac{{{size.numerator}}}{{{size.denominator}}}"
    return rf"{sign}{number}\,"


def _subscript(loss: "Label") -> str:
    name = str(loss)
    if len(name) == 1 and name.isascii() and name not in r"_#%&$^~{}\ ":
        return name
    return rf"\{'mathrm' if name.isascii() else 'text'}{{{_escaped(name)}}}"


def _escaped(name: str) -> str:
    return "".join(
        f"\\{c}" if c in "_#%&${}" else {"\\": r"\backslash{}", "^": r"\hat{}", "~": r"\sim{}"}.get(c, c) for c in name
    )


def _positive(value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1; got {value}.")
    return number


def _parser() -> Parser:
    parser = Parser(
        "python -m derivation.expand", "Expands a schedule of gradient steps in the step size, exactly.", _EPILOG
    )
    parser.add_argument(
        "--schedule",
        required=True,
        metavar="WORD",
        help="the losses in the order in which they are stepped: one letter per step (--schedule=-+-+), or names"
        " between commas",
    )
    parser.add_argument(
        "--step-sizes",
        default="",
        metavar="LIST",
        help="one fraction per step between commas, in units of eps (default: all 1)",
    )
    parser.add_argument("--order", type=_positive, default=3, metavar="N", help="the highest power of eps (default: 3)")
    parser.add_argument("--frame", choices=_FRAMES, default="none", help="what the displacement is compared with")
    parser.add_argument(
        "--modified-field",
        action="store_true",
        help="print the field whose flow for unit time is the update, and whether it is the gradient of a loss",
    )
    parser.add_argument("--json", type=output_path, metavar="PATH", help="write JSON; - for standard output")
    parser.add_argument("--latex", action="store_true", help="print LaTeX instead of a table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse(arguments)
    if options.latex and options.json and str(options.json) == "-":
        parser.error("only one of --latex and --json can go to standard output.")
    if options.modified_field and options.frame != "none":
        parser.error("--modified-field is a frame of its own; leave --frame out.")
    from derivation.averages import PLAIN  # noqa: PLC0415
    from derivation.frames import modified_field  # noqa: PLC0415
    from derivation.series import Schedule, compose  # noqa: PLC0415

    try:
        schedule = Schedule.parse(options.schedule, options.step_sizes)
        if options.modified_field:
            series = modified_field(compose(schedule, options.order), PLAIN, options.order)
        else:
            series = expansion(schedule, options.order, options.frame)
    except ValueError as error:
        parser.error(str(error))
    frame = "modified-field" if options.modified_field else options.frame
    if options.json:
        write(options.json, as_json(schedule, options.order, frame, series))
        if str(options.json) == "-":
            return 0
        print(f"Wrote {options.json}", file=sys.stderr)
    if options.latex:
        print(as_latex(series), end="")
        return 0
    _print(schedule, frame, series)
    return 0


_HEADINGS = {
    "none": "theta_m - theta",
    "accumulated": "drift relative to one accumulated step",
    "pair-accumulated": "drift relative to one accumulated step per two letters",
    "gradient-flow": "drift relative to the gradient flow",
    "modified-field": "the field whose flow for unit time is the update",
}


def _print(schedule: "Schedule", frame: str, series: "Series") -> None:
    from derivation.trees import num_vertices, text  # noqa: PLC0415

    sizes = (
        "" if set(schedule.step_sizes) == {Fraction(1)} else f", step sizes {', '.join(map(str, schedule.step_sizes))}"
    )
    print(f"{_HEADINGS[frame]}: schedule {schedule}{sizes}")
    if not series:
        print("  zero to this order")
    width = max((len(str(c)) for c in series.values()), default=0)
    for t, c in series.items():
        print(f"  eps^{num_vertices(t)}  {c!s:>{width}}  {text(t)}")
    if frame == "modified-field":
        for line in _potentials(series):
            print(line)


def _potentials(field: "Series") -> list[str]:
    """For every order, whether the field is the gradient of a loss; a witness where it is not."""
    from derivation.averages import PLAIN  # noqa: PLC0415
    from derivation.procedures import gradient_field  # noqa: PLC0415
    from derivation.trees import num_vertices  # noqa: PLC0415

    lines = []
    for power in sorted({num_vertices(t) for t in field}):
        verdict = gradient_field("", lambda power=power: field.of_order(power), PLAIN).decide()
        if verdict.status == "proved":
            lines.append(f"order {power}: the gradient of a loss, whatever the losses")
        elif verdict.witness:
            w = verdict.witness
            lines.append(f"order {power}: no gradient; for {w.setting}: {w.left}")
        else:
            lines.append(f"order {power}: undecided ({verdict.reason})")
    return lines


if __name__ == "__main__":
    sys.exit(run(main))
