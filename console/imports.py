"""Functions by import path, `package.module.function` or `package.module:function`."""

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from console.words import nearest

__all__ = ["current_folder", "dotted", "function_of"]

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*([.:])[A-Za-z_]\w*")


def dotted(path: str) -> str | None:
    """The path `package.module.function` of either form; None for a text that is no path."""
    return path.replace(":", ".") if _PATH.fullmatch(path) else None


@contextmanager
def current_folder() -> Iterator[None]:
    """The current folder as the first place of imports, as under `python -m`."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a module may be younger than the last look into its folder
    try:
        yield
    finally:
        with suppress(ValueError):  # a module may have taken it away
            sys.path.remove(folder)


def function_of(what: str, path: str) -> Callable[..., object]:
    """The function of a dotted path.

    Args:
        what: What errors call it, such as "optimizer".
        path: The path `package.module.function`.

    Raises:
        ValueError: If there is no such module or function, or its import fails; the message names the nearest one.
    """
    module_path, _, name = path.rpartition(".")
    with current_folder():
        module = _module(what, module_path)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"{what} must name a function of {module_path}; got {name!r}.{nearest(name, known)}")
    return function


def _module(what: str, path: str) -> ModuleType:
    parent, _, _ = path.rpartition(".")
    places = getattr(_module(what, parent), "__path__", ()) if parent else None
    try:
        return importlib.import_module(path)
    except (Exception, SystemExit) as error:  # whatever the module does as it is imported
        if isinstance(error, ModuleNotFoundError) and error.name == path:
            known = [f"{parent}.{info.name}".lstrip(".") for info in pkgutil.iter_modules(places)]
            reason = f"there is no such module.{nearest(path, known)}"
        else:
            first = (str(error).splitlines() or [""])[0]
            reason = f"{type(error).__name__}: {first}"
        raise ValueError(f"{what} must be in a module that can be imported; got {path}: {reason}") from error
