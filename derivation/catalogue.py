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

_FIELDS = BEYOND + "; cf. Hairer, Lubich & Wanner, ch. IX"

CATALOGUE: tuple[Entry, ...] = (
    Entry("grpo-gradient", "the gradient of the simplified GRPO objective", _MOTIVATION, "grpo"),
    Entry("grpo-advantage", "the group-normalised advantage", _MOTIVATION, "grpo"),
    Entry("grpo-split", "descent on good, ascent on bad trajectories", _MOTIVATION, "grpo"),
    Entry("two-step", "the second step of mini-batch descent", _SETUP, "steps"),
    Entry("m-step", "m steps to second order, and the remainder", _SETUP, "steps"),
    Entry("warm-up", "alternating losses without noise", _SETUP, "alternating"),
    Entry("warm-up-epoch", "the same over one epoch", _SETUP, "alternating"),
    Entry("four-way", "the split of the double sum by side", _BIAS, "permutations"),
    Entry("eq-1", "the mean over permutations of pairs", _BIAS, "permutations"),
    Entry("boxed", "the last term under a random start", _BIAS, "permutations"),
    Entry("large-b", "the first term dominates for large B", _INTERPRETATION, "permutations"),
    Entry("entanglement", "rewarding one inner product penalises another", _INTERPRETATION, "interpretation"),
    Entry("bias-sign", "sequential updates reward alignment", _INTERPRETATION, "interpretation"),
    Entry("lr-match", "the learning rate of the sequential run", _EXPERIMENTS, "learning_rates"),
    Entry("tree-rule", "the coefficient of a tree counts step assignments", BEYOND, "steps"),
    Entry("order-three", "m steps to third order", BEYOND, "steps"),
    Entry("order-brackets", "order acts only through brackets at order two", BEYOND, "steps"),
    Entry("bracket-curl", "a bracket is a gradient if Hessians commute", BEYOND, "steps"),
    Entry("palindrome", "a palindrome has no bracket", BEYOND, "steps"),
    Entry("reversal-mean", "one mean for all reversal-invariant orders", BEYOND, "reversal"),
    Entry("interleaving-is-reshuffling", "a random start is a reshuffling at order two", _SMITH, "reversal"),
    Entry("fixed-start", "one pair with a fixed start", BEYOND, "alternating"),
    Entry("opposite-losses", "L⁻ = −L⁺ on the same data", BEYOND, "alternating"),
    Entry("modified-loss-accumulated", "modified loss of the accumulated update", _BACKWARD, "modified"),
    Entry("modified-loss-pair-accumulated", "accumulating puts the cross term there", _BACKWARD, "modified"),
    Entry("modified-loss-sequential", "the sequential loss has no cross term", _SMITH, "modified"),
    Entry("pair-frame-drift", "drift against one accumulated step per pair", BEYOND, "modified"),
    Entry("accumulated-frame-drift", "drift against one accumulated step", BEYOND, "modified"),
    Entry("boxed-cancelled", "eq. (1) cancels its own boxed term", BEYOND, "modified"),
    Entry("third-order-modified-field", "no modified loss at third order", _FIELDS, "modified"),
    Entry("third-order-reshuffling", "third-order mean of random reshuffling", BEYOND, "third_order"),
    Entry("third-order-interleaving", "third-order mean of interleaved pairs", BEYOND, "third_order"),
    Entry("third-order-independent", "third-order mean, sides permuted independently", BEYOND, "third_order"),
    Entry("third-order-difference", "interleaving and reshuffling part at order three", BEYOND, "third_order"),
    Entry("ratio-curvature", "equal gradients, different curvature", BEYOND, "grpo"),
    Entry("two-optimizer-steps", "the experiment takes two steps per update", BEYOND, "learning_rates"),
    Entry("optimizer-map", "any optimizer: one derivative in the step", BEYOND, "optimizer_map"),
    Entry("heavy-ball", "momentum, symbolic β", BEYOND + "; cf. Ghosh et al. 2023", "heavy_ball"),
    Entry("adamw-alternation", "AdamW differs at first order", BEYOND, "learning_rates"),
    Entry("adamw-noise", "the same with minibatch noise", BEYOND + "; cf. Malladi et al. 2022", "learning_rates"),
)
