"""The third witness: the updates on a language model. So far its parts; `python -m experiments` lists them."""
