"""The names of optimizers, problems, schedules and frames, with their meanings.

Plain data and no import of JAX, so that `--help` and a typo are answered at once. `optimizers` and `problems` build the
things of these names.
"""

from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "FIXED",
    "FRAMES",
    "NAMED_OPTIMIZERS",
    "OPTIMIZERS",
    "PROBLEMS",
    "RANDOM",
    "SCHEDULES",
    "Frame",
    "Optimizer",
    "Option",
    "Random",
    "all_options",
    "parse_optimizer",
]


class Option(NamedTuple):
    """A number of an optimizer: finite, at least 0 (or more than 0), and below a bound."""

    default: float
    below: float = inf
    is_positive: bool = False


class Optimizer(NamedTuple):
    """An entry of the optimizers.

    Attributes:
        meaning: One line.
        options: Its numbers, by the names that Optax gives them.
        needs_second_moment: Whether it is built from a tree as well, and so not by its name alone.
    """

    meaning: str
    options: Mapping[str, Option] = MappingProxyType({})
    needs_second_moment: bool = False


# Adam's square root has a kink where a gradient vanishes, of width eps. eps_root rounds it off: with the default, a
# gradient coordinate of 0.1 is half way between the linear and the sign regime, and the update map is smooth on the
# scale of the gradients, which the problems here keep at order one.
_EPS_ROOT = Option(1e-2)
_MOMENTUM = {"momentum": Option(0.9)}
_ADAM = {"b1": Option(0.9, 1.0), "b2": Option(0.999, 1.0), "eps": Option(1e-8), "eps_root": _EPS_ROOT}
_ADAMW = {**_ADAM, "weight_decay": Option(1e-2)}
_CLIP = {"max_norm": Option(0.5, is_positive=True)}

OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        "sgd": Optimizer("gradient descent"),
        "heavy-ball": Optimizer("gradient descent with momentum", _MOMENTUM),
        "nesterov": Optimizer("gradient descent with Nesterov's momentum", _MOMENTUM),
        "adam": Optimizer("Adam; eps_root is added under the square root", _ADAM),
        "adamw": Optimizer("Adam with decoupled weight decay", _ADAMW),
        "clipped-sgd": Optimizer("gradient descent, clipped by the global norm", _CLIP),
        "clipped-adamw": Optimizer("AdamW behind clipping by the global norm", {**_CLIP, **_ADAMW}),
        "frozen-adamw": Optimizer(
            "AdamW whose second moment never changes",
            {name: option for name, option in _ADAMW.items() if name != "b2"},
            needs_second_moment=True,
        ),
    }
)

NAMED_OPTIMIZERS = {name: entry for name, entry in OPTIMIZERS.items() if not entry.needs_second_moment}
"""Optimizers that are built by their name and options alone."""

PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "quadratic": "indefinite quadratics in six variables",
        "commuting-quadratic": "the same, whose Hessians commute",
        "polynomial": "polynomials of degree 4 in three variables",
        "logistic": "logistic regression",
        "softmax": "softmax regression",
        "bandit": "a softmax policy over contexts, by the policy gradient",
        "ratio-bandit": "the same, by an on-policy ratio with stop_gradient",
        "mlp": "a perceptron with two hidden layers",
        "transformer": "a transformer with two layers on random tokens",
    }
)

FIXED: Mapping[str, str] = MappingProxyType(
    {
        "minus-first": "-1 +1 -2 +2 ...",
        "plus-first": "+1 -1 +2 -2 ...",
        "blocks": "-1 -2 ... +1 +2 ...",
        "reversed": "... +2 -2 +1 -1",
        "palindrome": "minus-first, and back",
    }
)
"""Schedules of one word, over n pairs of losses (-1 +1), ... (-n +n)."""


class Random(NamedTuple):
    """The pairs and the start of a `random_schedules.RandomSchedule`, and its meaning."""

    pairs: str
    start: str | None
    meaning: str


RANDOM: Mapping[str, Random] = MappingProxyType(
    {
        "random-start": Random("fixed", "random", "minus-first or plus-first, by one coin"),
        "shuffled-pairs": Random("joint", "-", "pairs in random order, - first (the post's eq. 1)"),
        "shuffled-random-start": Random("joint", "random", "the same, and a coin (the post's boxed term)"),
        "independent-sides": Random("independent", "-", "each side in a random order of its own, - first"),
        "reshuffling": Random("all", None, "all losses in random order"),
    }
)
"""Random schedules; a comparison takes their exact mean over all words."""

SCHEDULES = (*FIXED, *RANDOM)

Frame: TypeAlias = Literal["start", "accumulated", "pair-accumulated", "gradient-flow"]
"""The reference of a displacement.

start             nothing: the drift is the displacement itself
accumulated       one update on everything, all gradients read at the start
pair-accumulated  one accumulated update for every two steps, in the same order
gradient-flow     the exact flow of the same losses for the same total time; for plain gradient descent only
"""

FRAMES: Mapping[Frame, str] = MappingProxyType(
    {
        "accumulated": "one update on everything",
        "pair-accumulated": "one update for every two steps",
        "gradient-flow": "the gradient flow of the same losses for the same time",
        "start": "nothing",
    }
)


def parse_optimizer(text: str) -> tuple[str, dict[str, float]]:
    """The name and the options of `name` or `name:option=number,...`, such as "adam:eps=1e-3,b2=0.99".

    Raises:
        ValueError: If there is no such optimizer or option, or a value is not a number in its range.
    """
    name, _, items = text.partition(":")
    if name not in NAMED_OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(NAMED_OPTIMIZERS)}; got {name!r}.")
    options: dict[str, float] = {}
    for item in filter(None, items.split(",")):
        option, _, value = (part.strip() for part in item.partition("="))
        if option in options or option not in OPTIMIZERS[name].options:
            raise ValueError(_unknown(name, option))
        try:
            options[option] = float(value)
        except ValueError:
            options[option] = value  # type: ignore[assignment]  # refused below, with the range
    return name, all_options(name, options)


def _unknown(name: str, option: str) -> str:
    known = ", ".join(OPTIMIZERS[name].options) or "(none)"
    return f"{name} must be given options among {known}, each once; got {option!r}."


def all_options(name: str, options: Mapping[str, float]) -> dict[str, float]:
    """The options of an optimizer, with the defaults of those that are left out.

    Raises:
        ValueError: If there is no such optimizer or option, or an option is not a number in its range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}.")
    known = OPTIMIZERS[name].options
    for option, value in options.items():
        if option not in known:
            raise ValueError(_unknown(name, option))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name}:{option} must be a number; got {value!r}.")
        if not 0 <= value < inf:
            raise ValueError(f"{name}:{option} must be finite and not negative; got {value}.")
        if not value < known[option].below:
            below = f"{known[option].below:g}"
            raise ValueError(f"{name}:{option} must be below {below}; got {value}. Adam divides by 1 minus its powers.")
        if known[option].is_positive and not value > 0:
            raise ValueError(f"{name}:{option} must be positive; got {value}. A clip to nothing moves nothing.")
    return {option: options.get(option, entry.default) for option, entry in known.items()}
