"""The Setup of the post: gradient steps over any losses, to second and third order, and the rule behind all orders."""

from collections.abc import Iterator
from fractions import Fraction

from sympy import Expr, Integer, Rational, Symbol, binomial, diff, expand, expand_func, symbols

from derivation import beyond, post
from derivation.averages import ORDERED, PLAIN, mirrored
from derivation.claim import Claim, Statement, Verdict, claim
from derivation.claims import THRICE
from derivation.formula import Expression, Formula, term
from derivation.frames import SLOT, antisymmetric_jacobian, derivative
from derivation.procedures import equality, expressions, gradient_field
from derivation.series import Schedule, Series, compose, universal
from derivation.symbols import m
from derivation.trees import Label, Tree, automorphisms, labels, tree
from derivation.witness import Witness

__all__: list[str] = []


@claim("two-step")
def two_step() -> Claim:
    """theta_2 to second order."""
    word = Schedule((Label("L", 1), Label("L", 2)))

    def printed() -> Verdict:
        # A Hessian times a loss value is a matrix; in one dimension it is a number, and can be compared.
        x, step = symbols("x epsilon")
        first, second = x, x**2 / 2
        after = x - step * diff(first, x)
        after = after - step * diff(second, x).subs(x, after)
        true = expand(after).coeff(step, 2).subs(x, 0)
        literal = (diff(second, x, 2) * first).subs(x, 0)
        if true == literal:
            return Verdict("undecided", reason="the literal reading agrees at the point tried")
        return Verdict("refuted", Witness("L₁ = x, L₂ = x²/2, at x = 0", str(true), str(literal)))

    return Claim(
        finding="A gradient sign is missing on the last loss.",
        printed=Statement(r"\nabla^{2}\mathcal{L}_2\,\mathcal{L}_1", printed, expected="refuted"),
        precise=(equality(r"\theta_2 - \theta", lambda: compose(word, 2), post.two_step()),),
        assumptions=(THRICE,),
        method="composition of two steps; coefficients of trees",
        argument=(
            r"The second gradient is read at $\theta_1 = \theta - \varepsilon\,g_1$. Taylor's theorem gives"
            r" $g_2(\theta_1) = g_2 - \varepsilon H_2 g_1 + O(\varepsilon^2)$, and the step subtracts $\varepsilon$"
            r" times it: the second-order term is $+\varepsilon^2 H_2 g_1$.",
            r"As printed the last factor is the value $\mathcal{L}_1$: a matrix is added to a vector. Even in one"
            r" dimension, where both are numbers, the value is wrong. A $\nabla$ was lost.",
        ),
        post_line=post.PRINTED["two-step"],
    )


@claim("m-step")
def m_step() -> Claim:
    """theta_m to second order with a remainder that is uniform in m."""
    b = Symbol("b", integer=True, positive=True)

    def counted() -> tuple[Expr, ...]:
        """Sums over b = 1..m of C(b-1, 2) and (b-1)^2, by their recurrences: increments, and values at m = 0."""
        chains = (b - 1) * (b - 2) / 2
        forks = (b - 1) ** 2 / 2
        return chains, Integer(0), forks, Integer(0)

    def increments(chains_total: Expr, forks_total: Expr) -> tuple[Expr, ...]:
        return tuple(
            expand(value)
            for total in (chains_total, forks_total)
            for value in (total.subs(m, b) - total.subs(m, b - 1), total.subs(m, 0))
        )

    chains_total = expand(expand_func(binomial(m, 3)))
    forks_total = m * (m - 1) * (2 * m - 1) / 12

    def unbounded() -> Verdict:
        # L = -x^2/2 at x = 1: every step multiplies x by 1 + eps. With eps = 1 and m = 10 the path leaves every
        # ball on which bounds were taken at the start point (G = K = 1, T = 0).
        steps, step = 10, 1
        remainder = Rational(1 + step) ** steps - 1 - steps * step - binomial(steps, 2) * step**2
        bound = step**3 * binomial(steps, 3)
        if abs(remainder) <= bound:
            return Verdict("undecided", reason="the bound holds at the point tried")
        return Verdict(
            "refuted", Witness("L_b = −x²/2, ε = 1, m = 10, at x = 1", f"remainder {remainder}", f"bound {bound}")
        )

    return Claim(
        finding="True for every m, with a remainder of at most m³ε³(K²G + TG²)/6 where the derivatives are bounded on"
        " a convex set that holds the path.",
        printed=equality(
            r"\theta_m - \theta",
            lambda: universal(2),
            post.m_step(),
            reading="the terms; that the remainder is of order m³ε³ is the second and third paragraph",
        ),
        precise=(
            equality(r"\theta_m - \theta", lambda: universal(2), post.m_step()),
            expressions(
                r"\sum_{b=1}^{m}\binom{b-1}{2},\ \tfrac12\sum_{b=1}^{m}(b-1)^2",
                counted,
                increments(chains_total, forks_total),
                shown_right=r"\binom{m}{3},\ \frac{m(m-1)(2m-1)}{12}\ \le\ \frac{m^3}{6}",
                reading="the two sums of the remainder bound (third paragraph), by increments and values at m = 0",
                points=({b: 3},),
                slips={
                    "chains counted with C(m, 2)": increments(expand(m * (m - 1) / 2), forks_total),
                    "forks counted to b instead of b - 1": increments(chains_total, m * (m + 1) * (2 * m + 1) / 12),
                },
            ),
            expressions(
                r"\frac{m^3}{6} - \binom{m}{3},\ \frac{m^3}{6} - \frac{m(m-1)(2m-1)}{12}",
                lambda: (m**3 / 6 - chains_total, m**3 / 6 - forks_total),
                (m * (3 * m - 2) / 6, m * (3 * m - 1) / 12),
                reading="both differences are nonnegative for every m ≥ 1 as their factors show",
                points=({m: 2},),
            ),
            Statement(
                r"\|R_m\| \le \varepsilon^3 \left(\tbinom{m}{3} K_0^2 G_0 + \tfrac{m(m-1)(2m-1)}{12}\, T_0"
                r" G_0^2\right)",
                unbounded,
                expected="refuted",
                reading="with bounds at the start point only: they are needed on the whole path",
            ),
        ),
        assumptions=(
            THRICE,
            r"for the uniform remainder: bounds G, K, T on gradients, Hessians and third derivatives on a convex set"
            r" that holds the path, for example the ball of radius $m\varepsilon G$",
        ),
        method="every m: a tree of p vertices names at most p steps; remainder by summing Taylor bounds",
        argument=(
            r"*Every m at once.* Put to zero every loss that a tree does not name: its coefficient does not change,"
            r" and a step on a zero loss is the identity. So the coefficient of $H_{b_1} g_{b_2}$ in a word of any"
            r" length is its coefficient in a word of two letters: 1 where $b_2 < b_1$, else 0.",
            r"*The remainder.* Let G, K, T bound gradients, Hessians and third derivatives on a convex set that holds"
            r" the path. Then $\|\theta_{b} - \theta\| \le b\,\varepsilon G$, hence each gradient moves by at most $K"
            r" b\,\varepsilon G$, and $\|\theta_b - \theta + \varepsilon S_b\| \le \varepsilon^2 K G\, b(b-1)/2$ with"
            r" $S_b = \sum_{j\le b} g_j$.",
            r"In step $b$ the expansion drops $H_b$ times that last difference, and a Taylor remainder of at most"
            r" $\tfrac12 T \|\theta_{b-1}-\theta\|^2$. Summed over the steps: $\|R_m\| \le \varepsilon^3 ( K^2 G"
            r" \sum_b \tbinom{b-1}{2} + \tfrac12 T G^2 \sum_b (b-1)^2 )$, the chains and the forks of the third order."
            r" Both sums are at most $m^3/6$.",
            r"*Where it ends.* With bounds on a convex set that holds the path the estimate is true for every m and"
            r" $\varepsilon$. Where the derivatives are bounded near the start only, the path must stay there, which"
            r" $m\varepsilon G \le r$ gives for a ball of radius r; otherwise the remainder can grow like"
            r" $(1+\varepsilon)^m$. The underbrace 'full batch update' needs m = B.",
        ),
        post_line=post.PRINTED["m-step"],
    )


def _trees(num: int, top: int, *, strict: bool) -> Iterator[Tree]:
    """All trees with `num` vertices over the steps 1, ..., `top` whose children come before their parents."""
    for root in range(1, top + 1):
        below = root - 1 if strict else root
        for children in _forests(num - 1, below, strict=strict):
            yield tree(Label("L", root), *children)


def _forests(num: int, top: int, *, strict: bool) -> Iterator[tuple[Tree, ...]]:
    """All multisets of such trees with `num` vertices in all, each once: in ascending order."""
    if num == 0:
        yield ()
        return
    for size in range(1, num + 1):
        for first in _trees(size, top, strict=strict):
            for rest in _forests(num - size, top, strict=strict):
                if not rest or first <= rest[0]:
                    yield (first, *rest)


def _counted(order: int, *, strict: bool = True, divided: bool = True, sign: int = -1) -> Formula:
    """The rule: sign^(vertices) / automorphisms for every tree over steps whose children come before their parents.

    Over the steps that a tree names, each once, there is one way to give its vertices their steps.
    """
    terms = []
    for num in range(1, order + 1):
        for t in _trees(num, num, strict=strict):
            named = {label.member for label in labels(t)}
            if named == set(range(1, len(named) + 1)):
                terms.append((t, Fraction(sign**num, automorphisms(t) if divided else 1)))
    rule = r"\sum_{\tau} \frac{(-\varepsilon)^{|\tau|}}{\sigma(\tau)}\, N(\tau)\, F(\tau)"
    return Formula((term(1, Expression(Series(terms), rule, ORDERED)),))


@claim("tree-rule")
def tree_rule() -> Claim:
    """The coefficient of every tree."""
    order = 5
    return Claim(
        finding="One formula for the coefficient of every tree in every word, at every order.",
        printed=None,
        precise=(
            equality(
                r"\theta_m - \theta",
                lambda: universal(order),
                _counted(order),
                reading="N counts the ways to give each vertex a step, every child strictly before its parent",
                slips={
                    "a child may share its parent's step": _counted(order, strict=False),
                    "automorphisms forgotten": _counted(order, divided=False),
                    "sign of odd orders": _counted(order, sign=1),
                },
            ),
        ),
        assumptions=("losses smooth enough for the order asked",),
        method="induction on the steps, for every order; all trees to order 5 compared with the composition",
        argument=(
            r"Let $c_b(\tau)$ be the coefficient after b steps and $N_b(\tau)$ the number of ways to give each vertex"
            r" one of the first b steps, its colour the loss of that step, every child strictly before its parent."
            r" Claim: $c_b(\tau) = (-1)^{|\tau|} N_b(\tau)/\sigma(\tau)$ with $\sigma$ the number of automorphisms.",
            r"Step b adds $-\nabla\mathcal{L}_b(\theta + \text{displacement})$: a tree with root $b$ whose children"
            r" are $\tau_1^{\mu_1}, \tau_2^{\mu_2}, \ldots$ gains $-\prod_i c_{b-1}(\tau_i)^{\mu_i}/\mu_i!$.",
            r"On the other side $N_b(\tau) - N_{b-1}(\tau)$ counts the ways that give the root step b; then the"
            r" branches are independent and lie in the first b - 1 steps, $\prod_i N_{b-1}(\tau_i)^{\mu_i}$ ways. And"
            r" $\sigma(\tau) = \prod_i \mu_i!\,\sigma(\tau_i)^{\mu_i}$, $|\tau| = 1 + \sum_i \mu_i |\tau_i|$. So both"
            r" sides satisfy the same recursion from $c_0 = N_0 = 0$.",
            r"The comparison below sets every tree with at most five vertices, listed by an enumeration of its own,"
            r" against the composition of gradient steps.",
        ),
    )


@claim("order-three")
def order_three() -> Claim:
    """The third-order term of m steps."""
    return Claim(
        finding="Chains and forks, for every word.",
        printed=None,
        precise=(
            equality(
                r"\left[\theta_m - \theta\right]_{\varepsilon^3}",
                lambda: universal(3).of_order(3),
                beyond.order_three(),
            ),
        ),
        assumptions=("losses four times continuously differentiable",),
        method="every m: a tree of three vertices names at most three steps",
        argument=(
            r"The second-order displacement enters the next gradient linearly and gives the chains $H_k H_j g_i$, $i <"
            r" j < k$. The first-order displacement enters it quadratically and gives the forks $\tfrac12 T_k[S_k,"
            r" S_k]$ with $S_k = \sum_{j<k} g_j$, in which the two branches may stand at the same step.",
        ),
    )


@claim("order-brackets")
def order_brackets() -> Claim:
    """At second order the order of the steps acts only through brackets."""
    return Claim(
        finding="At second order the correction is a gradient that does not know the order, plus half a sum of"
        " brackets.",
        printed=None,
        precise=(
            equality("C_w", lambda: universal(2).of_order(2), beyond.correction_by_brackets()),
            equality(
                r"\tfrac12\left[\left(\sum_b H_b\right)\left(\sum_b g_b\right) - \sum_b H_b g_b\right]",
                lambda: beyond.symmetric_part().series(),
                beyond.symmetric_part_as_gradient(),
                reading="the first half is a gradient and does not depend on the order",
            ),
        ),
        assumptions=(THRICE,),
        method="every m: sums over pairs of positions split into before, after, same",
        argument=(
            r"$\left(\sum_b H_b\right)\left(\sum_b g_b\right)$ is the sum over all pairs of positions: $b_1 > b_2$,"
            r" $b_1 < b_2$ and $b_1 = b_2$. Take away the last and halve: what is left is the mean of $C_w$ and of the"
            r" same sum with the order turned round, and half their difference is the bracket sum.",
            r"The symmetric half is $\tfrac14 \nabla\left(\|\sum_b g_b\|^2 - \sum_b \|g_b\|^2\right) = \tfrac12 \nabla"
            r" \sum_{b<b'} g_b \cdot g_{b'}$: it knows the losses, not their order.",
        ),
    )


@claim("bracket-curl")
def bracket_curl() -> Claim:
    """The Jacobian of a bracket."""
    bracket = beyond.bracket().series()
    a, b = Label("L", 1), Label("L", 2)
    slot = tree(SLOT)

    def commuting() -> Series:
        """DX for quadratics with commuting Hessians: third derivatives are 0, and H_a H_b and H_b H_a are one tree."""
        opened = derivative(bracket, Series({slot: Fraction(1)}), PLAIN)
        return Series(
            (tree(min(a, b), tree(max(a, b), slot)), c)
            for t, c in opened.items()
            if len(t.children) == 1 and SLOT in {grandchild.loss for grandchild in t.children[0].children}
        )

    def nothing_left() -> Verdict:
        left = commuting()
        return Verdict("proved") if not left else Verdict("refuted", reason=f"{len(left)} terms are left")

    return Claim(
        finding="Its Jacobian is asymmetric by twice the commutator of the Hessians; one dimension and commuting"
        " quadratics cannot show it.",
        printed=None,
        precise=(
            equality(
                r"DX - DX^{\top}",
                lambda: antisymmetric_jacobian(bracket, PLAIN),
                beyond.commutator(),
                reading="X = H_a g_b - H_b g_a, a = 1, b = 2; the square is the vector that the matrix is applied to",
            ),
            gradient_field(
                r"X = H_1 g_2 - H_2 g_1 \ \text{is the gradient of a loss}",
                lambda: bracket,
                PLAIN,
                expected="refuted",
                reading="for all losses in two dimensions",
            ),
            Statement(
                r"H_1 H_2 = H_2 H_1,\ \nabla^3\mathcal{L}_i = 0 \ \Rightarrow\ DX = 0",
                nothing_left,
                reading="commuting quadratics: the bracket is a constant vector, and cannot show this",
            ),
        ),
        assumptions=(
            THRICE,
            "a gradient where the Hessians commute on an open, simply connected set (in d = 1 always)",
        ),
        method="Jacobians as trees with an open slot; transposing exchanges root and slot",
        argument=(
            r"$DX = T_a[g_b,\cdot] + H_a H_b - T_b[g_a,\cdot] - H_b H_a$. The third derivatives are symmetric matrices"
            r" and cancel in $DX - DX^{\top}$; the two products are each other's transposes and add up to $2[H_a,"
            r" H_b]$.",
            r"By Poincare's lemma a field on a simply connected open set is a gradient exactly where its Jacobian is"
            r" symmetric. In one dimension, or with commuting quadratics, it always is.",
        ),
    )


@claim("palindrome")
def palindrome() -> Claim:
    """A palindrome has no bracket."""
    return Claim(
        finding="No bracket at second order, without any randomness; at third order the order of the letters is back.",
        printed=None,
        precise=(
            equality(
                r"C_{w\,\mathrm{rev}(w)}",
                lambda: mirrored(universal(2).of_order(2)),
                beyond.palindrome(),
                reading="sums over the positions of w, of any length; no average is taken",
            ),
            gradient_field(
                r"C_{w\,\mathrm{rev}(w)} \ \text{is a gradient}", lambda: mirrored(universal(2).of_order(2)), ORDERED
            ),
            equality(
                r"\left[\theta_{abba}-\theta\right]_{\varepsilon^2}",
                lambda: compose(Schedule.parse("abba"), 2).of_order(2),
                beyond.displacement("baab", 2),
                reading="two palindromes of the same letters agree at second order",
            ),
            equality(
                r"\left[\theta_{abba}-\theta\right]_{\varepsilon^3}",
                lambda: compose(Schedule.parse("abba"), 3).of_order(3),
                beyond.displacement("baab", 3),
                expected="refuted",
                reading="and at third order they do not: order is back",
            ),
        ),
        assumptions=(
            THRICE,
            "one step size (for the first two statements also palindromic sizes e_b, with e_b L_b for L_b)",
        ),
        method="every length: positions of the two halves interleave and coincide in every way",
        argument=(
            r"A pair of steps inside the first half occurs in the second half in the other order, and together they"
            r" give $(\sum H)(\sum g) - \sum_b H_b g_b$, in which order has gone. A pair with one step in each half"
            r" occurs for every pair of positions, and gives $(\sum H)(\sum g)$.",
        ),
    )
