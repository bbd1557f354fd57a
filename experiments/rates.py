"""The rate of an arm: the step of its rule in units of the learning rate eta of an accumulated update."""

import re
from math import inf, sqrt

__all__ = ["SQUARE_ROOT_RULE", "step_of"]

SQUARE_ROOT_RULE = "sqrt-rule"
"""The rate that rescales Adam's numbers as well."""

_RATE = re.compile(r"(eta|\d+(?:\.\d*)?|\.\d+)(?:/(sqrt)?(\d+(?:\.\d*)?|\.\d+))?", re.ASCII)


def step_of(rate: str, num_steps: int = 2) -> float:
    """The step of the rule in units of the learning rate eta of an accumulated update (claim `lr-match`).

    Args:
        rate: A number or a fraction of eta: "1/3", "0.4", "eta/3", "eta/sqrt2"; or "sqrt-rule".

            eta        the same as an accumulated update
            eta/sqrt2  the post's
            eta/2      matches gradient descent on the mean of both halves at first order
            sqrt-rule  1/sqrt(num_steps): the post's step, with the decay rates and the epsilon of Adam for a batch of
                       1/num_steps of the size as well (Malladi et al. 2022)
        num_steps: The steps of the rule per update.

    Raises:
        ValueError: If it is none of these, or not positive.
    """
    if rate == SQUARE_ROOT_RULE:
        return 1 / sqrt(num_steps)
    if match := _RATE.fullmatch(rate):
        over, root, under = match.groups()
        numerator, denominator = (1.0 if over == "eta" else float(over)), float(under or 1)
        if 0 < numerator < inf and 0 < denominator < inf:
            return numerator / (sqrt(denominator) if root else denominator)
    raise ValueError(
        f"arm.rate must be a positive number or fraction, such as 0.4, 1/3, eta/2 or eta/sqrt2, or {SQUARE_ROOT_RULE}; "
        f"got {rate[:60]!r}."
    )
