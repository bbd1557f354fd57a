"""The list of claims: ids, titles, where they come from, in which module they are proved.

Plain data and no import of SymPy, so that `--list`, `--help` and a mistyped id are answered at once. Ids are
permanent: they cross into the other packages and into papers as strings.
"""

from typing import NamedTuple

__all__ = ["CATALOGUE", "Entry"]

POST = "post, "
BEYOND = "beyond the post"


class Entry(NamedTuple):
    """A claim of the catalogue.

    Attributes:
        id: Permanent kebab-case name.
        title: What it is about, in a phrase.
        source: The section of the post, or "beyond the post" with whom to read.
        module: The module of `derivation.claims` that proves it.
    """

    id: str
    title: str
    source: str
    module: str


_MOTIVATION = POST + "Motivation"
_SETUP = POST + "Setup"
_BIAS = POST + "Implicit Bias of Gradient Accumulation"
_INTERPRETATION = POST + "Interpretation"
_EXPERIMENTS = POST + "Experiments"
_SMITH = BEYOND + "; cf. Smith, Dherin, Barrett & De 2021"
_BACKWARD = BEYOND + "; cf. Barrett & Dherin 2021"

CATALOGUE: tuple[Entry, ...] = (
    Entry("two-step", "the second step of mini-batch descent", _SETUP, "steps"),
    Entry("m-step", "m steps to second order, and the remainder", _SETUP, "steps"),
    Entry("tree-rule", "the coefficient of a tree counts step assignments", BEYOND, "steps"),
    Entry("order-three", "m steps to third order", BEYOND, "steps"),
    Entry("order-brackets", "order acts only through brackets at second order", BEYOND, "steps"),
    Entry("bracket-curl", "a bracket is a gradient only where Hessians commute", BEYOND, "steps"),
    Entry("palindrome", "a palindrome has no bracket", BEYOND, "steps"),
)
