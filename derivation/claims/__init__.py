"""The proofs, one module per section of the post, one function per claim."""
