"""`python -m derivation.expand`: the expansion of a schedule of one's own."""

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from console.command import CallError, call, command, option, run
from console.output import write
from console.progress import progress
from console.values import output_path, whole

if TYPE_CHECKING:
    from derivation.claim import Verdict
    from derivation.series import Schedule, Series
    from derivation.trees import Label, Tree

__all__ = ["as_json", "as_latex", "expansion", "main"]

_HIGHEST_ORDER = 1000
_MOST_COUNTED = 10**6  # steps times order squared: beyond the limit, terms are counted only where that takes no time
Frame = Literal["none", "accumulated", "pair-accumulated", "gradient-flow"]
_EPILOG = """\
The printed sum is the displacement theta_m - theta after one gradient-descent
step per letter, in powers of the step size eps. Letters within brackets are one
accumulated update: (-+)(-+). A colon gives a step its size: +:1,-:1/2. Ascent
on a loss is descent on its negative. Notation: g[a] gradient, H[a] Hessian,
T[a] third derivative of loss a, D4[a] the fourth and so on, all at the start
point.

frames (what is subtracted):
  accumulated        one step on everything, all gradients read at the start
  pair-accumulated   one accumulated step for every two letters
  gradient-flow      the exact flow of the same losses, each for as long as its
                     steps are

examples:
  python -m derivation.expand --schedule=-+-+ --order 3
  python -m derivation.expand --schedule kl,reward,kl --step-sizes 1/2,1,1/2
  python -m derivation.expand --schedule=-+ --frame accumulated --latex
  python -m derivation.expand --schedule=-++- --modified-field
  python -m derivation.expand --schedule="(-+)(-+)" --frame accumulated

exit status: 0, 1 where a file could not be written, 2 for a call that cannot be
carried out, 130 if interrupted.
"""


def expansion(
    schedule: "Schedule", order: int, frame: str = "none", on_step: Callable[[int], None] = lambda _: None
) -> "Series":
    """The displacement of a schedule, or its drift relative to a frame.

    Args:
        schedule: The steps.
        order: The highest power of the step size.
        frame: "none", "accumulated", "pair-accumulated" or "gradient-flow".
        on_step: Told the number of each step, from 1, before it is made.

    Raises:
        ValueError: If the frame needs pairs and the number of steps is odd, or `order` is smaller than 1.
    """
    from derivation.averages import PLAIN  # noqa: PLC0415
    from derivation.frames import accumulated, flow  # noqa: PLC0415
    from derivation.series import compose  # noqa: PLC0415

    displacement = compose(schedule, order, on_step)
    match frame:
        case "accumulated":
            return displacement - accumulated(schedule, order)
        case "pair-accumulated":
            return displacement - accumulated(schedule, order, group=2)
        case "gradient-flow":
            return displacement - flow(displacement.of_order(1), PLAIN, order)
        case _:
            return displacement


def as_json(
    schedule: "Schedule", order: int, frame: str, series: "Series", verdicts: "dict[int, Verdict] | None" = None
) -> str:
    """An expansion as JSON text.

    Args:
        schedule: The steps.
        order: The highest power of the step size.
        frame: What the series is relative to, or "modified-field".
        series: The expansion.
        verdicts: For every order whether the field is the gradient of a loss, where that was decided.
    """
    from derivation.trees import text  # noqa: PLC0415

    def node(t: "Tree") -> dict[str, object]:
        return {"loss": str(t.loss), "children": [node(child) for child in t.children]}

    content: dict[str, object] = {
        "schedule": str(schedule),
        "step_sizes": [str(size) for size in schedule.step_sizes],
        "order": order,
        "frame": frame,
        "terms": [{"tree": node(t), "coefficient": str(c), "text": text(t)} for t, c in series.items()],
    }
    if verdicts is not None:
        content["gradient"] = [
            {
                "order": power,
                "is_gradient": {"proved": True, "refuted": False}.get(verdict.status),
                "witness": verdict.witness and {"losses": verdict.witness.setting, "jacobian": verdict.witness.left},
                "reason": verdict.reason,
            }
            for power, verdict in verdicts.items()
        ]
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


@command("python -m derivation.expand", _EPILOG)
def expand(
    *,
    schedule: Annotated[
        str,
        option(
            "the losses in the order in which they are stepped: one letter per step, or names between commas; brackets "
            "for one accumulated update, a colon for a size",
            "WORD",
        ),
    ],
    step_sizes: Annotated[
        str,
        option(
            "one fraction per step between commas, in units of eps, for a word without sizes (default: all 1)", "LIST"
        ),
    ] = "",
    order: Annotated[int, option("the highest power of eps", "N", whole(1, _HIGHEST_ORDER))] = 3,
    frame: Annotated[Frame, option("what the displacement is compared with:", "NAME")] = "none",
    modified_field: Annotated[
        bool, option("print the field whose flow for unit time is the update, and whether it is the gradient of a loss")
    ] = False,
    no_limit: Annotated[bool, option("begin also what would take more than minutes")] = False,
    path: Annotated[
        Path | None, option("write JSON; - for standard output", "PATH", output_path, name="--json")
    ] = None,
    latex: Annotated[bool, option("print LaTeX instead of a table")] = False,
) -> int:
    """Expands a schedule of gradient steps in the step size, exactly."""
    if latex and path and str(path) == "-":
        raise CallError("only one of --latex and --json can go to standard output.")
    if modified_field and frame != "none":
        raise CallError("--modified-field is a frame of its own; leave --frame out.")
    from derivation.series import Schedule  # noqa: PLC0415

    sys.set_int_max_str_digits(0)  # exact numbers are printed whole, however long
    relative_to = "modified-field" if modified_field else frame
    needs_verdicts = modified_field and bool(path or not latex)
    try:
        steps = Schedule.parse(schedule, step_sizes)
        if not no_limit:
            _check_effort(steps, order, relative_to)
        series, verdicts = _computed(steps, order, relative_to, needs_verdicts)
    except ValueError as error:
        raise CallError(str(error)) from None
    if path:
        write(path, as_json(steps, order, relative_to, series, verdicts))
        if str(path) == "-":
            return 0
        print(f"Wrote {path}", file=sys.stderr)
    if latex:
        print(as_latex(series), end="")
        return 0
    _print(steps, relative_to, series)
    for line in _potentials(series, verdicts or {}):
        print(line)
    return 0


def _check_effort(schedule: "Schedule", order: int, frame: str) -> None:
    """Refuses what would not end.

    Raises:
        ValueError: With the number of terms, and the highest order that ends.
    """
    from derivation import effort  # noqa: PLC0415

    num_vertices, highest = 0, 0
    for power, needed in enumerate(effort.by_order(schedule.losses, frame), start=1):
        num_vertices += needed.num_vertices
        is_within = num_vertices <= effort.LIMIT
        highest = power if is_within else highest
        if power == order and is_within:
            return
        if power == order or (not is_within and power**2 * len(schedule.losses) > _MOST_COUNTED):
            rule = f"--order must be at most {highest} for this schedule" if highest else "--schedule must be shorter"
            raise ValueError(
                f"{rule}; got order {order} of {len(schedule.losses):,} steps. Order {power} alone has up to"
                f" {_count(needed.num_trees)} terms, and would take more than minutes; --no-limit begins all the same."
            )


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"10^{len(str(number)) - 1}"


def _computed(
    schedule: "Schedule", order: int, frame: str, needs_verdicts: bool
) -> "tuple[Series, dict[int, Verdict] | None]":
    """The series of a frame, and for every order whether it is a gradient where that is asked for."""
    from derivation.averages import PLAIN  # noqa: PLC0415
    from derivation.frames import modified_field  # noqa: PLC0415
    from derivation.procedures import gradient_field  # noqa: PLC0415
    from derivation.series import compose  # noqa: PLC0415

    num_steps = len(schedule.losses)
    num_stages = num_steps + (order if frame == "modified-field" else 1) + (order if needs_verdicts else 0)
    with progress("expanding", num_stages, "stages", is_silent_if_quick=True) as advance:

        def on_step(number: int) -> None:
            advance(number - 1, f"step {number} of {num_steps}")

        if frame != "modified-field":
            series = expansion(schedule, order, frame, on_step)
            advance(num_stages)
            return series, None
        displacement = compose(schedule, order, on_step)
        field = modified_field(
            displacement, PLAIN, order, lambda power: advance(num_steps + power - 1, f"the field at order {power}")
        )
        if not needs_verdicts:
            advance(num_stages)
            return field, None
        verdicts = {}
        for power in range(1, order + 1):
            advance(num_steps + order + power - 1, f"whether order {power} is a gradient")
            verdicts[power] = gradient_field("", lambda power=power: field.of_order(power), PLAIN).decide()
        advance(num_stages)
        return field, verdicts


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


def _potentials(field: "Series", verdicts: "dict[int, Verdict]") -> list[str]:
    """For every order that the field has, whether it is the gradient of a loss; a witness where it is not."""
    from derivation.trees import num_vertices  # noqa: PLC0415

    lines = []
    for power in sorted({num_vertices(t) for t in field} & verdicts.keys()):
        verdict = verdicts[power]
        if verdict.status == "proved":
            lines.append(f"order {power}: the gradient of a loss, whatever the losses")
        elif verdict.witness:
            w = verdict.witness
            lines.append(f"order {power}: no gradient; for {w.setting}: {w.left}")
        else:
            lines.append(f"order {power}: undecided ({verdict.reason})")
    return lines


main = partial(call, expand)

if __name__ == "__main__":
    sys.exit(run(main))
