"""The third witness: the updates on a language model. Nothing is here yet; see the README."""
