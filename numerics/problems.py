"""Small loss families, as pairs, for the README, the command line and the tests.

Every problem is one function `loss(params, batch)`, a start, and random batches: n for L- and n for L+. In the opposite
variant L- is the negative of the same function on its own batches, so that the two are opposite as functionals and not
loss by loss. Gradients and Hessians are of order one at the start.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numerics import checks, losses, networks
from numerics.losses import Losses
from numerics.types import Batch, LossFn, Params, Scalar

__all__ = ["BY_NAME", "MONOMIALS", "Problem", "make", "polynomial_loss", "quadratic_loss"]


class Problem(NamedTuple):
    """A start and n pairs of losses."""

    params: Params
    losses: Losses


class _Draw(NamedTuple):
    """A draw of a family: the function, the start, and one stack of batches for each side."""

    loss: LossFn
    params: Params
    minus: Batch
    plus: Batch


# Polynomials ----------------------------------------------------------------------------------------------------------


def quadratic_loss(params: Params, batch: tuple[Float[Array, "d d"], Float[Array, " d"]]) -> Scalar:
    """x.A x / 2 + b.x: the Hessian is A, the gradient A x + b."""
    matrix, vector = batch
    x = params["x"]
    return x @ matrix @ x / 2 + vector @ x


def _quadratic(random: np.random.Generator, num_pairs: int, *, is_commuting: bool) -> _Draw:
    """Indefinite quadratics in six variables; the eigenvalues of A are of order one."""
    size = 6
    basis = np.linalg.qr(random.normal(size=(size, size)))[0]

    def stack() -> tuple[np.ndarray, np.ndarray]:
        if is_commuting:
            matrices = np.einsum("ij,nj,kj->nik", basis, random.normal(size=(num_pairs, size)), basis)
        else:
            drawn = random.normal(size=(num_pairs, size, size))
            matrices = (drawn + drawn.swapaxes(1, 2)) / np.sqrt(2 * size)
        return matrices, random.normal(size=(num_pairs, size)) / np.sqrt(size)

    return _Draw(quadratic_loss, {"x": random.normal(size=size) / np.sqrt(size)}, stack(), stack())


MONOMIALS: Int[np.ndarray, "terms 3"] = np.array([e for e in product(range(5), repeat=3) if 0 < sum(e) <= 4])
"""The exponents of every monomial of degree 1 to 4 in three variables."""


def polynomial_loss(params: Params, coefficients: Float[Array, " terms"]) -> Scalar:
    """sum over MONOMIALS of coefficient * x^exponents."""
    x = params["x"]
    powers = jnp.cumprod(jnp.stack([jnp.ones_like(x), x, x, x, x]), axis=0)
    monomials = jnp.prod(jnp.stack([powers[MONOMIALS[:, i], i] for i in range(3)]), axis=0)
    return coefficients @ monomials


def _polynomial(random: np.random.Generator, num_pairs: int) -> _Draw:
    """Degree 4 in three variables; integer coefficients and a dyadic start, so that exact arithmetic can follow."""

    def stack() -> np.ndarray:
        return random.integers(-2, 3, size=(num_pairs, len(MONOMIALS))).astype(float)

    return _Draw(polynomial_loss, {"x": random.integers(-2, 3, size=3) / 8}, stack(), stack())


# Regression and policy gradient ---------------------------------------------------------------------------------------

NUM_EXAMPLES = 5  # per loss
NUM_FEATURES = 4
NUM_CLASSES = 3


def _logistic_loss(params: Params, batch: tuple[Float[Array, "b d"], Float[Array, " b"]]) -> Scalar:
    """log(1 + exp(-y (w.x + b))) with y = +-1, mean over examples."""
    features, signs = batch
    margins = signs * (features @ params["weights"] + params["bias"])
    return jnp.mean(jax.nn.softplus(-margins))


def _features(random: np.random.Generator, num_pairs: int) -> np.ndarray:
    return random.normal(size=(num_pairs, NUM_EXAMPLES, NUM_FEATURES))


def _logistic(random: np.random.Generator, num_pairs: int) -> _Draw:
    """Logistic regression."""

    def stack() -> tuple[np.ndarray, np.ndarray]:
        return _features(random, num_pairs), random.choice([-1.0, 1.0], size=(num_pairs, NUM_EXAMPLES))

    params = {"weights": random.normal(size=NUM_FEATURES), "bias": random.normal(size=())}
    return _Draw(_logistic_loss, params, stack(), stack())


def _log_probs(params: Params, features: Float[Array, "b d"], classes: Int[Array, " b"]) -> Float[Array, " b"]:
    log_probs = jax.nn.log_softmax(features @ params["weights"] + params["bias"])
    return jnp.take_along_axis(log_probs, classes[:, None], axis=1)[:, 0]


def _linear_params(random: np.random.Generator) -> Params:
    return {"weights": random.normal(size=(NUM_FEATURES, NUM_CLASSES)), "bias": random.normal(size=NUM_CLASSES)}


def _softmax_loss(params: Params, batch: tuple[Float[Array, "b d"], Int[Array, " b"]]) -> Scalar:
    """Cross-entropy, mean over examples."""
    return -jnp.mean(_log_probs(params, *batch))


def _classes(random: np.random.Generator, num_pairs: int) -> np.ndarray:
    return random.integers(NUM_CLASSES, size=(num_pairs, NUM_EXAMPLES)).astype(np.int32)


def _softmax(random: np.random.Generator, num_pairs: int) -> _Draw:
    """Softmax regression."""

    def stack() -> tuple[np.ndarray, np.ndarray]:
        return _features(random, num_pairs), _classes(random, num_pairs)

    return _Draw(_softmax_loss, _linear_params(random), stack(), stack())


def _bandit_loss(params: Params, batch: tuple[Float[Array, "b d"], Int[Array, " b"], Float[Array, " b"]]) -> Scalar:
    """-advantage * log pi(action | context), mean over actions: its gradient is the policy gradient's, negated."""
    contexts, actions, advantages = batch
    return -jnp.mean(advantages * _log_probs(params, contexts, actions))


def _ratio_loss(params: Params, batch: tuple[Float[Array, "b d"], Int[Array, " b"], Float[Array, " b"]]) -> Scalar:
    """-advantage * pi(action | context) / stop_gradient(pi(action | context)), mean over actions.

    The loss as on-policy trainers write it. Its gradient is that of `_bandit_loss` at all parameters, and so is the
    update; the second derivatives that JAX gives are not.
    """
    contexts, actions, advantages = batch
    log_probs = _log_probs(params, contexts, actions)
    return -jnp.mean(advantages * jnp.exp(log_probs - jax.lax.stop_gradient(log_probs)))


def _bandit(random: np.random.Generator, num_pairs: int, *, is_opposite: bool, loss: LossFn = _bandit_loss) -> _Draw:
    """A softmax policy over contexts: L+ holds actions with positive advantage, L- those with negative advantage."""

    def stack(sign: float) -> tuple[np.ndarray, ...]:
        advantages = sign * random.uniform(0.5, 1.5, size=(num_pairs, NUM_EXAMPLES))
        return _features(random, num_pairs), _classes(random, num_pairs), advantages

    # The opposite of the function has the sign already.
    return _Draw(loss, _linear_params(random), stack(1.0 if is_opposite else -1.0), stack(1.0))


# Networks -------------------------------------------------------------------------------------------------------------


def _perceptron(random: np.random.Generator, num_pairs: int, *, widths: tuple[int, ...] = (4, 8, 8, 2)) -> _Draw:
    """A perceptron with two hidden layers."""

    def stack() -> tuple[np.ndarray, np.ndarray]:
        return (
            random.normal(size=(num_pairs, NUM_EXAMPLES, widths[0])),
            random.normal(size=(num_pairs, NUM_EXAMPLES, widths[-1])),
        )

    return _Draw(networks.perceptron_loss, networks.perceptron_params(random, widths), stack(), stack())


def _language_model(random: np.random.Generator, num_pairs: int) -> _Draw:
    """A transformer with two layers on random tokens."""
    num_tokens, length = 11, 7

    def stack() -> np.ndarray:
        return random.integers(num_tokens, size=(num_pairs, 2, length)).astype(np.int32)

    params = networks.language_model_params(random, num_tokens=num_tokens, width=8, num_layers=2, length=length - 1)
    return _Draw(networks.language_model_loss, params, stack(), stack())


BY_NAME: Mapping[str, Callable[..., _Draw]] = MappingProxyType(
    {
        "quadratic": partial(_quadratic, is_commuting=False),
        "commuting-quadratic": partial(_quadratic, is_commuting=True),
        "polynomial": _polynomial,
        "logistic": _logistic,
        "softmax": _softmax,
        "bandit": _bandit,
        "ratio-bandit": partial(_bandit, loss=_ratio_loss),
        "mlp": _perceptron,
        "transformer": _language_model,
    }
)


@checks.arguments
def make(
    name: str,
    num_pairs: int,
    *,
    seed: int,
    is_opposite: bool = False,
    dtype: Literal["float32", "float64"] = "float64",
    **sizes: tuple[int, ...],
) -> Problem:
    """A random problem, the same for the same arguments.

    Args:
        name: One of BY_NAME.
        num_pairs: n, 1 at least.
        seed: Of NumPy's default generator.
        is_opposite: Whether L- is the negative of the same function, on batches of its own.
        dtype: Of the parameters and the batches; float64 needs `jax_enable_x64`.
        sizes: `widths` for the perceptron.

    Raises:
        ValueError: If there is no such problem, no pair, or float64 is asked for and not switched on.
    """
    if name not in BY_NAME:
        raise ValueError(f"problem must be one of {', '.join(BY_NAME)}; got {name!r}.")
    if dtype == "float64" and jnp.zeros((), float).dtype != np.float64:
        raise ValueError('dtype must be float32 unless float64 is on; call jax.config.update("jax_enable_x64", True).')
    if sizes and (name != "mlp" or set(sizes) != {"widths"}):
        raise TypeError(f"sizes must be widths, and for mlp alone; got {', '.join(sizes)} for {name}.")
    options = {"is_opposite": is_opposite} if name in ("bandit", "ratio-bandit") else {}
    drawn = BY_NAME[name](np.random.default_rng(seed), num_pairs, **options, **sizes)

    def placed(tree: Batch) -> Batch:
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, dtype if np.issubdtype(np.asarray(leaf).dtype, np.floating) else None), tree
        )

    minus = losses.negated(drawn.loss) if is_opposite else drawn.loss
    return Problem(placed(drawn.params), losses.pairs(minus, placed(drawn.minus), drawn.loss, placed(drawn.plus)))
