"""The first witness: exact, symbolic proofs. Needs SymPy only."""
