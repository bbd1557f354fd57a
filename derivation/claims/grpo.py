"""The Motivation of the post: the simplified GRPO objective on a finite tree of trajectories with a softmax policy.

The tree: at the root one of two tokens; the first ends the answer, the second leads to a node with two more tokens.
So there are three answers, of length 1, 2 and 2. Every node has free logits (a tabular softmax), for the policy and
for the old policy; any other parametrisation is a function of the logits, and the chain rule carries an identity
between gradients over to it. The logits enter as weights x = exp(logit), so that everything is a rational function.
"""

from functools import cache
from itertools import product

from sympy import Basic, Expr, Function, Integer, Rational, Symbol, diff, exp, expand, sqrt, symbols

from derivation import post
from derivation.claim import Claim, Statement, Verdict, claim
from derivation.procedures import expressions
from derivation.witness import Witness

__all__: list[str] = []

_WEIGHTS = symbols("x_1 x_2 y_1 y_2", positive=True)
_OLD = symbols("u_1 u_2 v_1 v_2", positive=True)
_AT_OLD = dict(zip(_WEIGHTS, _OLD, strict=True))
_ANSWERS = ((0,), (1, 2), (1, 3))
"""Each answer as the indices of the weights of its tokens."""
_GROUP_SIZE = 2
_GROUPS = tuple(product(range(len(_ANSWERS)), repeat=_GROUP_SIZE))


def _probability(token: int, weights: tuple[Symbol, ...]) -> Expr:
    node = 2 * (token // 2)
    return weights[token] / (weights[node] + weights[node + 1])


def _sampled(answer: int) -> Expr:
    """The probability of an answer under the old policy."""
    value: Expr = Integer(1)
    for token in _ANSWERS[answer]:
        value *= _probability(token, _OLD)
    return value


def _ratio(token: int) -> Expr:
    return _probability(token, _WEIGHTS) / _probability(token, _OLD)


_MEMBERS = tuple((g, i) for g in range(len(_GROUPS)) for i in range(_GROUP_SIZE))
"""Every member of every group. J is linear in their advantages, which depend on the rewards alone; so both sides of a
claim are compared coefficient by coefficient, and the advantages stay free."""


@cache
def _objective_gradient() -> tuple[Expr, ...]:
    """The gradient of J by the logits, from its definition; d/d(log x) = x d/dx.

    J is the expectation over groups drawn from the old policy of (1/G) sum_i (1/|o_i|) sum_t ratio A_i.

    Returns:
        For every logit the coefficient of every advantage, in the order of `_MEMBERS`.
    """
    coefficients = []
    for g, i in _MEMBERS:
        weight: Expr = Integer(1)
        for answer in _GROUPS[g]:
            weight *= _sampled(answer)
        tokens = _ANSWERS[_GROUPS[g][i]]
        coefficients.append(weight * sum((_ratio(t) for t in tokens), Integer(0)) / (_GROUP_SIZE * len(tokens)))
    return tuple(x * diff(c, x) for x in _WEIGHTS for c in coefficients)


def _policy(first: Expr, second: Expr, third: Expr, fourth: Expr) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    """The probabilities of the four tokens at their nodes, and of the three answers, written out."""
    root, node = first + second, third + fourth
    tokens = (first / root, second / root, third / node, fourth / node)
    return tokens, (first / root, second * third / (root * node), second * fourth / (root * node))


@cache
def _formula(*, has_ratio: bool, by_length: bool = True, is_sampled_old: bool = True) -> tuple[Expr, ...]:
    """The expectation of [ratio] A grad log pi in the same order, by the score of a softmax.

    The derivative of log pi(token) by the logit of another token of its node is [same token] - pi(other).  Shares
    nothing with `_objective_gradient`: the probabilities are written out, nothing is differentiated.
    """
    (now, now_answers), (old, old_answers) = _policy(*_WEIGHTS), _policy(*_OLD)
    sampling = old_answers if is_sampled_old else now_answers
    entries = []
    for logit in range(len(_WEIGHTS)):
        for g, i in _MEMBERS:
            tokens = _ANSWERS[_GROUPS[g][i]]
            score: Expr = Integer(0)
            for token in tokens:
                if token // 2 == logit // 2:
                    ratio = now[token] / old[token] if has_ratio else Integer(1)
                    score += ratio * ((1 if token == logit else 0) - now[logit])
            probability = sampling[_GROUPS[g][0]] * sampling[_GROUPS[g][1]]
            entries.append(probability * score / (2 * (len(tokens) if by_length else 1)))
    return tuple(entries)


def _at_old(values: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return tuple(value.subs(_AT_OLD) for value in values)


_POINT = {
    **dict(zip(_WEIGHTS, map(Integer, (2, 1, 3, 1)), strict=True)),
    **dict(zip(_OLD, map(Integer, (1, 1, 1, 1)), strict=True)),
}
_POINT_OF_WHAT = "the values compared are the coefficients of one advantage in one component"


@claim("grpo-gradient")
def grpo_gradient() -> Claim:
    """The gradient of the simplified objective."""
    left = r"\nabla_\theta J"
    right = (
        r"\mathbb{E}\left[\frac1G\sum_i\frac{1}{|o_i|}\sum_t %s \hat A_i \nabla_\theta\log\pi_\theta(o_{i,t}\mid q,"
        r" o_{i,<t})\right]"
    )
    ratio = r"\frac{\pi_\theta(o_{i,t}\mid\cdot)}{\pi_{\theta_{\mathrm{old}}}(o_{i,t}\mid\cdot)}"
    exchanged = {**_AT_OLD, **{old: new for new, old in _AT_OLD.items()}}
    return Claim(
        finding="True only at θ = θ_old; elsewhere each term carries the ratio of the two policies.",
        printed=expressions(
            left,
            _objective_gradient,
            _formula(has_ratio=False),
            expected="refuted",
            points=(_POINT,),
            shown_right=right % "",
            reading="at every θ; " + _POINT_OF_WHAT,
        ),
        precise=(
            expressions(
                left,
                _objective_gradient,
                _formula(has_ratio=True),
                points=(_POINT,),
                shown_right=right % ratio,
                reading="at every θ, with the ratio",
                is_mutated=False,
                slips={
                    "ratio lost": _formula(has_ratio=False),
                    "policies exchanged": tuple(
                        value.subs(exchanged, simultaneous=True) for value in _formula(has_ratio=True)
                    ),
                    "sign flipped": tuple(-value for value in _formula(has_ratio=True)),
                    "length normalisation lost": _formula(has_ratio=True, by_length=False),
                    "sampled from the current policy": _formula(has_ratio=True, is_sampled_old=False),
                },
            ),
            expressions(
                left + r"\big|_{\theta_{\mathrm{old}}}",
                lambda: _at_old(_objective_gradient()),
                _at_old(_formula(has_ratio=False)),
                points=(_POINT,),
                shown_right=right % "",
                reading="at θ = θ_old, as printed",
                is_mutated=False,
                slips={"length normalisation lost": _at_old(_formula(has_ratio=False, by_length=False))},
            ),
        ),
        assumptions=(
            "the advantages do not depend on θ: they are functions of the rewards",
            "trajectories are sampled from the old policy; every probability is positive",
            "written out for groups of two, one prompt and three answers of one or two tokens, free logits",
        ),
        method="a finite tree of trajectories with free logits; the ratio differentiated on one side, the score of the"
        " softmax written out on the other; larger groups, trees and parametrisations by linearity and the chain rule",
        argument=(
            r"Only the ratio depends on $\theta$: sampling is from $\pi_{\theta_{\mathrm{old}}}$ and $\hat A$ is a"
            r" function of rewards. And $\nabla\tfrac{\pi_\theta}{\pi_{\mathrm{old}}} ="
            r" \tfrac{\pi_\theta}{\pi_{\mathrm{old}}} \nabla\log\pi_\theta$ for any policy.",
            r"The printed line has lost that ratio. It is 1 at $\theta = \theta_{\mathrm{old}}$, so the line is right"
            r" for the first update on a batch and in general wrong for every later one.",
        ),
        post_line=post.PRINTED["grpo-gradient"],
    )


@claim("grpo-split")
def grpo_split() -> Claim:
    """Descent on good and ascent on bad trajectories."""
    # Which member of a group is good is decided by the rewards; here every second one, so that both kinds of every
    # answer occur. The size |A| stays free: a coefficient of |A| is that of A with the sign of A.
    signs = [1 if (g + i) % 2 == 0 else -1 for _ in _WEIGHTS for g, i in _MEMBERS]

    def signed(values: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return tuple(sign * value for sign, value in zip(signs, values, strict=True))

    def only(values: tuple[Expr, ...], kept: int) -> tuple[Expr, ...]:
        return tuple(value if sign == kept else Integer(0) for sign, value in zip(signs, values, strict=True))

    def difference(values: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Up on the good part, down on the bad part, sizes free."""
        return tuple(good - bad for good, bad in zip(only(values, 1), only(values, -1), strict=True))

    likelihood = _formula(has_ratio=False)
    right = (
        r"\mathbb{E}\left[\sum_{\hat A_i>0} \tfrac{|\hat A_i|}{G|o_i|}\sum_t %s\nabla\log\pi_\theta(o_{i,t}\mid\cdot)"
        r" - \sum_{\hat A_i<0} \tfrac{|\hat A_i|}{G|o_i|}\sum_t %s\nabla\log\pi_\theta(o_{i,t}\mid\cdot)\right]"
    )
    bare, with_ratio = right % ("", ""), right % ("r_{i,t}", "r_{i,t}")
    return Claim(
        finding="The split by the sign of the advantage holds everywhere; its parts are log-likelihood gradients only"
        " at θ = θ_old.",
        printed=expressions(
            r"\nabla J",
            lambda: signed(_objective_gradient()),
            difference(likelihood),
            points=(_POINT,),
            expected="refuted",
            shown_right=bare,
            reading="at every θ, expectation over groups understood; " + _POINT_OF_WHAT,
        ),
        precise=(
            expressions(
                r"\nabla J\big|_{\theta_{\mathrm{old}}}",
                lambda: _at_old(signed(_objective_gradient())),
                _at_old(difference(likelihood)),
                points=(_POINT,),
                shown_right=bare,
                reading="at θ = θ_old: log-likelihood gradients, up on the good, down on the bad",
                is_mutated=False,
                slips={
                    "ascent on both": _at_old(likelihood),
                    "good and bad exchanged": tuple(-value for value in _at_old(difference(likelihood))),
                    "bad part lost": _at_old(only(likelihood, 1)),
                },
            ),
            expressions(
                r"\nabla J",
                lambda: signed(_objective_gradient()),
                difference(_formula(has_ratio=True)),
                points=(_POINT,),
                shown_right=with_ratio,
                reading="at every θ: the split by the sign of the advantage, with the ratio in both parts",
                is_mutated=False,
                slips={
                    "ratio lost in the bad part": tuple(
                        a + b
                        for a, b in zip(
                            only(_formula(has_ratio=True), 1), (-v for v in only(likelihood, -1)), strict=True
                        )
                    )
                },
            ),
        ),
        assumptions=(
            "as for grpo-gradient; one assignment of signs under which every answer is good in one group and bad in"
            " another",
            "members with advantage 0 belong to neither part",
        ),
        method="a finite tree of trajectories with free logits; linearity in the advantages",
        argument=(
            r"J is linear in the advantages, so it splits by their sign at every $\theta$. Descent means descent on a"
            r" loss: $\mathcal{L}^+$ is minus the good part, $\mathcal{L}^-$ minus the bad part, a log-likelihood with"
            r" positive weight.",
            r"That the parts are gradients of log-likelihoods needs the ratio to be 1, that is $\theta ="
            r" \theta_{\mathrm{old}}$. And even there only the gradients agree: the Hessians differ (ratio-curvature),"
            r" which second order sees.",
        ),
        post_line=post.PRINTED["grpo-split"],
    )


@claim("grpo-advantage")
def grpo_advantage() -> Claim:
    """The group-normalised advantage."""
    size = Symbol("G", integer=True, positive=True)
    first, second, r, shift = symbols("S_1 S_2 r delta", positive=True)

    def summed(value: Expr) -> Expr:
        """Sum over a group of a polynomial in r_i of degree at most 2: power sums S_0 = G, S_1, S_2."""
        polynomial = expand(value)
        return sum((polynomial.coeff(r, k) * power for k, power in enumerate((size, first, second))), Integer(0))

    centred = r - first / size
    variance = summed(centred**2) / size
    unbiased = summed(centred**2) / (size - 1)
    point = {size: 4, first: 2, second: 2, shift: Rational(1, 2)}

    def is_a_number() -> Verdict:
        """The quotient for G = 2 and two equal rewards, step by step."""
        rewards = (Integer(1), Integer(1))
        middle = sum(rewards, Integer(0)) / 2
        above = rewards[0] - middle
        below = sqrt(sum(((reward - middle) ** 2 for reward in rewards), Integer(0)) / 2)
        if (above / below).is_number and (above / below).is_finite:
            return Verdict("undecided", reason="it is a number at the point tried")
        return Verdict("refuted", Witness("G = 2, r = (1, 1)", f"{above}/{below}", "a number"))

    return Claim(
        finding="Undefined when all rewards of a group agree; else mean 0, and variance 1 if both use one estimator"
        " and nothing is added to the std.",
        printed=Statement(
            r"\hat A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r)} \ \text{is a number for every"
            r" group}",
            is_a_number,
            expected="refuted",
            reading="as a definition it must give one",
        ),
        precise=(
            expressions(
                r"\tfrac1G\sum_i\hat A_i,\ \tfrac1G\sum_i\hat A_i^2",
                lambda: (summed(centred) / size / sqrt(variance), summed(centred**2) / size / variance),
                (Integer(0), Integer(1)),
                points=(point,),
                reading="std with 1/G on both sides, std not 0, for every G",
                slips={"mean taken as 1/G": (1 / size, Integer(1))},
            ),
            expressions(
                r"\tfrac{1}{G-1}\sum_i\hat A_i^2",
                lambda: summed(centred**2) / (size - 1) / unbiased,
                Integer(1),
                points=(point,),
                reading="std with 1/(G-1) on both sides",
            ),
            expressions(
                r"\tfrac{1}{G}\sum_i\hat A_i^2",
                lambda: summed(centred**2) / size / unbiased,
                Integer(1),
                points=(point,),
                expected="refuted",
                reading="the two estimators mixed: (G-1)/G instead",
            ),
            expressions(
                r"\tfrac{1}{G}\sum_i\hat A_i^2",
                lambda: variance / (sqrt(variance) + shift) ** 2,
                Integer(1),
                points=(point,),
                expected="refuted",
                reading="with δ added to the std, as implementations do",
            ),
            expressions(
                r"\sum_{\hat A_i>0}\hat A_i + \sum_{\hat A_i<0}\hat A_i",
                lambda: summed(centred) / sqrt(variance),
                Integer(0),
                points=(point,),
                reading="good and bad advantages balance; the gradients that they weigh need not",
                slips={"balance of 1": Integer(1)},
            ),
            expressions(
                r"\sum_{\hat A_i>0}\tfrac{\hat A_i}{|o_i|} + \sum_{\hat A_i<0}\tfrac{\hat A_i}{|o_i|}",
                lambda: Integer(1) / 1 + Integer(-1) / 2,
                Integer(0),
                expected="refuted",
                reading="weights 1/|o_i| upset the balance: G = 2, advantages 1 and −1, lengths 1 and 2",
            ),
            expressions(
                r"\hat A_i \ \text{at}\ r_1 = \ldots = r_G,\ \text{with}\ \delta > 0",
                lambda: (r - size * r / size) / (0 + shift),
                Integer(0),
                points=({r: 1, size: 2, shift: 1},),
                reading="with δ added a group without spread has advantage 0: it contributes no gradient",
                slips={"advantage 1": Integer(1)},
            ),
        ),
        assumptions=("at least two different rewards in the group, or a positive δ added to the std",),
        method="every G: sums of polynomials in r through the power sums G, S_1, S_2",
        argument=(
            r"$\sum_i (r_i - \bar r) = 0$ and $\tfrac1G\sum_i (r_i - \bar r)^2$ is the variance, so the normalised"
            r" advantages have mean 0 and variance 1, provided that both use the same estimator and nothing is added"
            r" to the std.",
            r"If all rewards of a group agree the quotient is 0/0. Implementations add a small $\delta$, and then"
            r" every advantage is 0: such a group is silent. With $\delta$ the variance is below 1 for every group.",
            r"The sum over good equals minus the sum over bad advantages. This balances numbers, not gradients: each"
            r" is divided by the length of its answer.",
        ),
        post_line=post.PRINTED["grpo-advantage"],
    )


@claim("ratio-curvature")
def ratio_curvature() -> Claim:
    """Equal gradients, different curvature at theta_old."""
    x, y = symbols("x y", real=True)
    ell = Function("ell")(x, y)
    old = Symbol("ell_old", real=True)
    ratio = exp(ell - old)
    hessian = [(x, x), (x, y), (y, y)]

    def at_old(value: Expr) -> Expr:
        return expand(value.subs({old: ell, other_old: other}))

    other = Function("ell_2")(x, y)
    other_old = Symbol("ell_2_old", real=True)
    other_ratio = exp(other - other_old)

    def added_by_ratio() -> tuple[Expr, ...]:
        return tuple(at_old(a - b) for a, b in zip(one_pair(ratio, other_ratio), one_pair(ell, other), strict=True))

    def pair_values(entries: tuple[Expr, ...]) -> tuple[Basic, ...]:
        concrete = {ell: x + 2 * y + x * y, other: 3 * x + y}
        return tuple(entry.subs(list(concrete.items())).doit().subs({x: 0, y: 0}) for entry in entries)

    def one_pair(good: Expr, bad: Expr) -> tuple[Expr, ...]:
        """H+ g- for L+ = -good, L- = bad."""
        return tuple(-sum((diff(good, u, v) * diff(bad, v) for v in (x, y)), Integer(0)) for u in (x, y))

    def plain(u: Symbol, v: Symbol) -> Expr:
        return diff(ell, u, v)

    def corrected(u: Symbol, v: Symbol, sign: int = 1) -> Expr:
        return diff(ell, u, v) + sign * diff(ell, u) * diff(ell, v)

    def values(entries: tuple[Expr, ...]) -> tuple[Basic, ...]:
        return tuple(entry.subs(ell, x * y + x).doit().subs({x: 0, y: 0}) for entry in entries)

    hessian_of_ratio = tuple(at_old(diff(ratio, u, v)) for u, v in hessian)
    return Claim(
        finding="At θ_old the ratio and the log-likelihood share gradients, and their Hessians differ by an outer"
        " product.",
        printed=None,
        precise=(
            expressions(
                r"\nabla r\big|_{\mathrm{old}}",
                lambda: tuple(at_old(diff(ratio, u)) for u in (x, y)),
                (diff(ell, x), diff(ell, y)),
                shown_right=r"\nabla\ell",
                reading="the gradients agree",
                is_mutated=False,
            ),
            expressions(
                r"\nabla^2 r\big|_{\mathrm{old}}",
                lambda: hessian_of_ratio,
                tuple(corrected(u, v) for u, v in hessian),
                shown_right=r"\nabla^2\ell + \nabla\ell\,\nabla\ell^{\top}",
                reading="the Hessians do not, for any log-likelihood",
                is_mutated=False,
            ),
            expressions(
                r"\nabla^2 r\big|_{\mathrm{old}}",
                lambda: values(hessian_of_ratio),
                values(tuple(corrected(u, v) for u, v in hessian)),
                shown_right=r"\nabla^2\ell + \nabla\ell\,\nabla\ell^{\top}",
                reading="the same at l = x y + x, in numbers",
                slips={
                    "outer product lost": values(tuple(plain(u, v) for u, v in hessian)),
                    "outer product subtracted": values(tuple(corrected(u, v, -1) for u, v in hessian)),
                },
            ),
            expressions(
                r"\nabla^2 r\big|_{\mathrm{old}}",
                lambda: values(hessian_of_ratio),
                values(tuple(plain(u, v) for u, v in hessian)),
                expected="refuted",
                shown_right=r"\nabla^2\ell",
                reading="at l = x y + x, at the origin",
            ),
            expressions(
                r"C_{\text{ratio}} - C_{\text{log-likelihood}}",
                added_by_ratio,
                tuple(-diff(ell, u) * (diff(ell, x) * diff(other, x) + diff(ell, y) * diff(other, y)) for u in (x, y)),
                shown_right=r"-\nabla\ell_+ \left(\nabla\ell_+\cdot\nabla\ell_-\right)",
                reading="up on a preferred token after down on a dispreferred one: what the ratio loss adds to the"
                " correction",
                is_mutated=False,
            ),
            expressions(
                r"C_{\text{ratio}} - C_{\text{log-likelihood}}",
                lambda: pair_values(added_by_ratio()),
                (Integer(-5), Integer(-10)),
                shown_right=r"-\nabla\ell_+ \left(\nabla\ell_+\cdot\nabla\ell_-\right)",
                reading="the same for l₊ = x + 2y + xy and l₋ = 3x + y at the origin, in numbers",
                slips={"the two tokens exchanged": (Integer(-15), Integer(-5))},
            ),
        ),
        assumptions=(
            "log-likelihood twice continuously differentiable",
            "per token (or for a ratio of whole sequences); over tokens the Hessians add up, and C is a double sum",
        ),
        method="two derivatives of exp(l - l_old) for an arbitrary function l",
        argument=(
            r"$r = e^{\ell - \ell_{\mathrm{old}}}$ gives $\nabla r = r\nabla\ell$ and $\nabla^2 r = r(\nabla^2\ell +"
            r" \nabla\ell\nabla\ell^{\top})$; at $\theta_{\mathrm{old}}$ r = 1.",
            r"So the ratio loss of GRPO and the log-likelihood loss have the same first-order update and different"
            r" second-order terms: a statement about 'the' implicit bias must say which of the two is stepped.",
        ),
    )
