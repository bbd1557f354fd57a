"""Derivatives of the values of a function, where `jax.lax.stop_gradient` would leave a part of them out.

Gradient descent follows `jax.grad(loss)`, whatever was stopped on the way to it: the gradient of the on-policy ratio
exp(l - stop_gradient(l)) is the gradient of l at every parameter. The next orders need the derivative of that field as
it is computed, in which a stopped value moves with the parameters. `jax.jvp(jax.grad(loss))` holds it constant. A field
of this kind need not be a gradient, and its Jacobian need not be symmetric.

So the field is traced to its program (a jaxpr), every `stop_gradient` in the program becomes the identity, and the rest
is differentiated. Where nothing is differentiated nothing is changed.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, PyTree

from numerics import checks, contents

__all__ = ["as_computed"]


@checks.arguments
def as_computed(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The same function with the derivatives, of every order, of its values.

    `jax.lax.stop_gradient` inside it counts as the identity, also in loops, branches, nested programs and the rules of
    `jax.custom_jvp`. Where the field holds the value of a function with a rule of its own, such as a straight-through
    estimator, the value has the derivative of what computes it: of the forward pass of a `jax.custom_vjp`, and of the
    body of a `jax.custom_jvp`. The rule of the latter is taken at its word in installed packages (JAX's mend what has
    no derivative at a point), and where the body cannot be differentiated.

    Args:
        function: From arrays and trees of them to the same. A gradient that it takes inside is taken as JAX takes it,
            with everything stopped that its author stopped.
    """

    @jax.custom_jvp
    def value(*args: PyTree) -> PyTree:
        return function(*args)

    def derivative(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*primals)
        run = core.jaxpr_as_fun(_closed_without_stops(program))
        leaves, directions = jax.tree.leaves(primals), jax.tree.leaves(tangents, is_leaf=_is_zero)
        moving = [place for place, direction in enumerate(directions) if not _is_zero(direction)]

        def unstopped(*moved: Array) -> PyTree:
            # An argument that does not move is a constant: a derivative in its direction may be infinite.
            at = dict(zip(moving, moved, strict=True))
            flat = run(*(at.get(place, leaf) for place, leaf in enumerate(leaves)))
            return jax.tree.unflatten(jax.tree.structure(shape), flat)

        return jax.jvp(unstopped, [leaves[place] for place in moving], [directions[place] for place in moving])

    value.defjvp(derivative, symbolic_zeros=True)
    return value


def _is_zero(tangent: object) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _closed_without_stops(program: core.ClosedJaxpr) -> core.ClosedJaxpr:
    stripped, new_consts = _without_stops(program.jaxpr)
    return core.ClosedJaxpr(stripped, [*program.consts, *new_consts])


def _without_stops(program: core.Jaxpr) -> tuple[core.Jaxpr, Sequence]:
    """The program with every `stop_gradient` taken out, and the values of the constants that it has besides its own."""
    renamed: dict[core.Var, core.Var | core.Literal] = {}
    equations: list[core.JaxprEqn] = []
    constvars, consts = list(program.constvars), []

    def new(atom: core.Var | core.Literal) -> core.Var | core.Literal:
        return atom if isinstance(atom, core.Literal) else renamed.get(atom, atom)

    def inline(equation: core.JaxprEqn, function: Callable[..., list]) -> None:
        # Traced anew, so that its variables are its own: two equations may share one program.
        inner = jax.make_jaxpr(function)(*(atom.aval for atom in equation.invars))
        renamed.update(zip(inner.jaxpr.invars, equation.invars, strict=True))
        constvars.extend(inner.jaxpr.constvars)
        consts.extend(inner.consts)
        for inner_equation in inner.jaxpr.eqns:
            equations.append(inner_equation.replace(invars=[new(atom) for atom in inner_equation.invars]))
        renamed.update((out, new(atom)) for out, atom in zip(equation.outvars, inner.jaxpr.outvars, strict=True))

    for original in program.eqns:
        equation = original.replace(invars=[new(atom) for atom in original.invars])
        if equation.primitive is core.primitives.stop_gradient_p:
            renamed[equation.outvars[0]] = equation.invars[0]
        elif equation.primitive is core.primitives.custom_jvp_call_p:
            inline(equation, _custom_jvp(equation))
        elif equation.primitive is core.primitives.custom_vjp_call_p:
            inline(equation, core.jaxpr_as_fun(_closed_without_stops(_only_program(equation))))
        else:
            equations.append(equation.replace(params=jax.tree.map(_stripped, equation.params, is_leaf=_is_program)))
    outvars = [new(atom) for atom in program.outvars]
    return program.replace(constvars=constvars, outvars=outvars, eqns=equations), consts


def _is_program(leaf: object) -> bool:
    return isinstance(leaf, core.Jaxpr | core.ClosedJaxpr)


def _stripped(leaf: object) -> object:
    """A parameter of an equation; a program without its stops."""
    if isinstance(leaf, core.ClosedJaxpr):
        return _closed_without_stops(leaf)
    if isinstance(leaf, core.Jaxpr):
        stripped, consts = _without_stops(leaf)
        if consts:
            raise NotImplementedError(
                "a loss must not hold a jax.custom_jvp with arrays of its own inside jax.checkpoint; got one. Give it "
                "these arrays as arguments."
            )
        return stripped
    return leaf


def _only_program(equation: core.JaxprEqn) -> core.ClosedJaxpr:
    (program,) = (leaf for leaf in jax.tree.leaves(equation.params, is_leaf=_is_program) if _is_program(leaf))
    return program


def _is_differentiable(function: Callable[..., list], shapes: Sequence) -> bool:
    """Whether JAX has a forward derivative of a function of floating-point numbers, and of others that do not move."""
    moving = [place for place, shape in enumerate(shapes) if jnp.issubdtype(shape.dtype, jnp.floating)]

    def pushed(*args: Array) -> tuple:
        def along(*moved: Array) -> list:
            at = dict(zip(moving, moved, strict=True))
            return function(*(at.get(place, arg) for place, arg in enumerate(args)))

        point = [args[place] for place in moving]
        return jax.jvp(along, point, point)

    try:
        jax.eval_shape(pushed, *(jax.ShapeDtypeStruct(shape.shape, shape.dtype) for shape in shapes))
    except Exception:  # noqa: BLE001  # whatever a primitive without a derivative raises
        return False
    return True


def _custom_jvp(equation: core.JaxprEqn) -> Callable[..., list]:
    """The function of a `custom_jvp_call`, with nothing stopped in it or in its rule."""
    program = _only_program(equation)
    body = core.jaxpr_as_fun(_closed_without_stops(program))
    is_of_library = contents.is_of_library(program.jaxpr.debug_info.func_filename or "")
    if not is_of_library and _is_differentiable(body, [atom.aval for atom in equation.invars]):
        return body
    inputs = program.jaxpr.invars  # one variable each; those of the equation may be literals, or one of them twice
    alone = program.jaxpr.replace(
        constvars=(), outvars=equation.outvars, eqns=[equation.replace(invars=inputs)], effects=equation.effects
    )
    original = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))
    run = jax.custom_jvp(body)

    @run.defjvp
    def rule(primals: tuple, tangents: tuple) -> tuple[list, list]:
        def pushed(primals: tuple, tangents: tuple) -> tuple[list, list]:
            return jax.jvp(original, primals, tangents)

        program, shape = jax.make_jaxpr(pushed, return_shape=True)(primals, tangents)
        flat = core.jaxpr_as_fun(_closed_without_stops(program))(*jax.tree.leaves((primals, tangents)))
        return jax.tree.unflatten(jax.tree.structure(shape), flat)

    return run
