"""The experiment, and each of its parts alone. The rooms are the stages of the data.

From Python: `run` makes arms times seeds on a `LanguageModel` or on `OwnLosses`, `write_report` their page. They are
loaded when they are asked for, so that commands answer at once; `__init__.pyi` has their types.
"""

import importlib

__all__ = ["LanguageModel", "OwnLosses", "run", "write_report"]  # by __getattr__


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("experiments.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
