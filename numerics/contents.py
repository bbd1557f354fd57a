"""The content of a callable: the values that it reads beside its arguments, in a form that can be compared.

JAX keeps a compiled program by the callable that it was traced from, and a callable may read more than its arguments:
the variables that a closure holds, the attributes of a method's object, globals. Where these change, the program is out
of date and nothing shows it. So everything compiled here is kept by the callable and its content at the time of the
call. Nothing is known here about losses or rules.

Seen: closures, defaults, `functools.partial`, attributes of objects (dataclasses and modules of any library too) and
what they hold; numbers, strings and containers by value, NumPy arrays by a digest of their bytes, JAX arrays by object,
for they cannot change. Globals and class attributes count where the code that reads them is not of an installed
package. Not seen: state outside Python (files, random generators, tensors of other libraries, data behind a C
extension), values that are computed where they are read (descriptors, `__getattr__`, `globals()`, context variables),
and values that a function under a `jax.jit` of its own reads: JAX traces that once and keeps it.
"""

import enum
import hashlib
import inspect
import sys
import sysconfig
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial, wraps
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import ParamSpec, TypeVar

import jax
import numpy as np

__all__ = ["Snapshot", "compiled", "hashable", "is_of_library", "of"]

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_PLAIN = (str, bytes, int, complex, bool, type(None), type(Ellipsis), range, slice, np.dtype)

P = ParamSpec("P")
R = TypeVar("R")


class _Alike:
    """An object by its own equality, where it has one that is hashable; else by identity."""

    __slots__ = ("hash", "is_comparable", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self.is_comparable = not isinstance(value, jax.Array)
        try:
            self.hash = hash(value) if self.is_comparable else id(value)
        except TypeError:
            self.is_comparable, self.hash = False, id(value)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Alike):
            return NotImplemented
        if self.value is other.value:
            return True
        return self.is_comparable and other.is_comparable and bool(self.value == other.value)


class Snapshot:
    """A value and its content at this moment: equal to another where both are, and always hashable.

    Attributes:
        value: The value itself.
    """

    __slots__ = ("_content", "_hash", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self._content = of(value)
        self._hash = hash(self._content)

    def __hash__(self) -> int:
        """That of the content."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Whether both contents are equal."""
        return isinstance(other, Snapshot) and self._content == other._content


class _ByIdentity:
    """A callable that cannot be hashed, compared by identity; its content is seen as that of any object."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *arguments: object) -> object:
        return self.function(*arguments)

    def __hash__(self) -> int:
        return id(self.function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.function is other.function


def hashable(function: Callable[P, R]) -> Callable[P, R]:
    """The callable itself where it can be hashed; else one that calls it and can, such as for a plain dataclass."""
    try:
        hash(function)
    except TypeError:
        return _ByIdentity(function)  # type: ignore[return-value]
    return function


def of(value: object) -> Hashable:
    """The content of a value; equal contents compute the same, as far as Python can see."""
    return _Walk().content(value)


@cache
def is_of_library(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return path.startswith(_LIBRARIES)


@cache
def _names(code: CodeType) -> tuple[str, ...]:
    """The names of globals and attributes that a piece of code and the functions in it may read."""
    inner = (name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant))
    return tuple(dict.fromkeys((*code.co_names, *inner)))


class _Walk:
    """One walk over everything that a value holds; a value that was met before is named by its number."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._met: list[object] = []  # kept alive, or an id might come a second time

    def content(self, value: object) -> Hashable:
        if isinstance(value, float):
            return type(value), value.hex()  # NaN equals itself, and 0.0 is not -0.0
        if isinstance(value, enum.Enum) or type(value) in _PLAIN:
            return type(value), _Alike(value)
        if isinstance(value, np.generic):
            return type(value), value.tobytes()
        if isinstance(value, jax.Array):
            return _Alike(value)
        if id(value) in self._numbers:
            return "met", self._numbers[id(value)]
        self._numbers[id(value)] = len(self._met)
        self._met.append(value)
        if isinstance(value, np.ndarray):
            bytes_ = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
            return "array", value.shape, value.dtype.str, hashlib.blake2b(bytes_, digest_size=16).digest()
        if isinstance(value, MethodType):
            return "method", self.content(value.__self__), self.content(value.__func__)
        if isinstance(value, partial):
            return type(value), *map(self.content, (value.func, value.args, value.keywords))
        if isinstance(value, FunctionType):
            return _Alike(value), self._function(value)
        if isinstance(value, ModuleType):
            return _Alike(value)
        if isinstance(value, (bytearray, memoryview, array)):
            return type(value), bytes(value)
        if isinstance(value, (tuple, list, deque)):
            return type(value), tuple(map(self.content, value)), self._attributes(value)
        if isinstance(value, (set, frozenset)):
            return type(value), frozenset(map(self.content, value)), self._attributes(value)
        if isinstance(value, (dict, MappingProxyType)):
            items = tuple((self.content(key), self.content(item)) for key, item in value.items())
            return type(value), items, self._attributes(value)
        if isinstance(value, property):
            return "property", *map(self.content, (value.fget, value.fset))
        if isinstance(value, type):
            return _Alike(value), self._class(value)
        return _Alike(value), self._attributes(value), self._class(type(value))

    def _function(self, function: FunctionType) -> Hashable:
        code = function.__code__
        parts: list[object] = [function.__defaults__, function.__kwdefaults__, vars(function)]
        for cell in function.__closure__ or ():
            try:
                parts.append(cell.cell_contents)
            except ValueError:  # not bound yet
                parts.append(None)
        if not is_of_library(code.co_filename):
            parts += self._globals(code, function.__globals__)
        return code, *map(self.content, parts)

    def _globals(self, code: CodeType, scope: dict[str, object]) -> list[object]:
        names = _names(code)
        # A module that is imported inside the function is no global of it.
        values = [scope.get(name, sys.modules.get(name)) for name in names if name in scope or name in sys.modules]
        seen: list[ModuleType] = []
        for value in values:  # grows: a module may be reached through another
            if isinstance(value, ModuleType) and value not in seen and not _is_library_module(value):
                seen.append(value)
                values += [vars(value)[name] for name in names if name in vars(value)]
        return values

    def _attributes(self, value: object) -> Hashable:
        kept = [(kind, kind.__dict__.get("__slots__", ())) for kind in type(value).__mro__]
        slots = [
            f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            for kind, names in kept
            for name in ([names] if isinstance(names, str) else names)
        ]
        held = {name: getattr(value, name) for name in slots if not name.startswith("__") and hasattr(value, name)}
        return tuple((name, self.content(item)) for name, item in {**held, **getattr(value, "__dict__", {})}.items())

    def _class(self, kind: type) -> Hashable:
        """The attributes of a class and of those that it inherits from, as far as they are not of a library."""
        return tuple(
            (name, self.content(getattr(item, "__func__", item)))
            for each in kind.__mro__
            if not _is_of_library_class(each)
            for name, item in vars(each).items()
            if not (name.startswith("__") and name.endswith("__")) or name == "__call__"
        )


def _is_library_module(module: ModuleType) -> bool:
    return is_of_library(getattr(module, "__file__", None) or _LIBRARIES[0])


def _is_of_library_class(kind: type) -> bool:
    # Where a module has no file, as a notebook has none, its classes are the user's.
    path = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return kind.__module__ in sys.builtin_module_names or is_of_library(path)


def compiled(*, static: Sequence[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`jax.jit` whose static arguments are kept by their content, and need not be hashable.

    Args:
        static: The names of the arguments that are no arrays.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @partial(jax.jit, static_argnames=tuple(static))
        @wraps(function)
        def program(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.arguments.update({name: bound.arguments[name].value for name in static if name in bound.arguments})
            return function(*bound.args, **bound.kwargs)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            snapshots = {name: Snapshot(bound.arguments[name]) for name in static if name in bound.arguments}
            bound.arguments.update(snapshots)
            return program(*bound.args, **bound.kwargs)

        return call

    return decorate
