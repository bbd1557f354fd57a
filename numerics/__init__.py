"""The second witness: drift of real updates in floating point. Nothing is here yet; see the README."""
