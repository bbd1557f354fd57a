"""The proofs, one module per section of the post, one function per claim; and the assumptions that many share."""

__all__ = ["FOUR_TIMES", "ONE_STEP", "THRICE", "TWICE"]

TWICE = "losses twice continuously differentiable near the start point"
THRICE = "losses three times continuously differentiable near the start point"
FOUR_TIMES = "losses four times continuously differentiable near the start point"
ONE_STEP = "one constant step size"
