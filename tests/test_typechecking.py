"""The tests' own type checks: shared by functions of one signature, which stay functions of their own."""

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped

from tests.support import typechecking


def scaled_by(factor):
    @jaxtyped(typechecker=typechecking.checked)
    def scaled(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return factor * (x + y) if factor else np.zeros(len(x) + 1)

    return scaled


def test_every_function_within_a_function_is_called_itself_and_checked():
    ones, two = np.ones(3), np.ones(2)
    before = len(typechecking._CHECKS)
    first = scaled_by(2.0)
    num_checks = len(typechecking._CHECKS) - before
    second, wrong = scaled_by(5.0), scaled_by(0.0)
    assert num_checks > 0
    assert len(typechecking._CHECKS) == before + num_checks
    assert [first(ones, ones)[0], second(ones, ones)[0]] == [4.0, 10.0]
    for function, arguments in ((first, (ones, two)), (second, (ones, ones[None])), (wrong, (ones, ones))):
        with pytest.raises(TypeCheckError):
            function(*arguments)
