"""The experiment on a language model, and each of its parts alone. The rooms are the stages of the data."""
