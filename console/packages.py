"""What is not installed, in one line with the command that installs it."""

__all__ = ["INSTALL", "missing"]

INSTALL = "python -m pip install --constraint constraints.txt --editable '{}'"
"""To be typed in the project's folder; what is named is `.` or `.[EXTRA]`."""

_ROOMS = ("console", "derivation", "numerics", "experiments")


def missing(error: ModuleNotFoundError, extra: str = "") -> str | None:
    """The line for a command that cannot be carried out; None where what is missing is a module of our own.

    Args:
        error: What importing raised, or what was raised with a line of its own.
        extra: The extra of this project that the command needs; empty for none.
    """
    if error.name is None:
        return str(error)
    package = error.name.partition(".")[0]
    if package in _ROOMS:
        return None
    return f"{package} must be installed. In the project's folder: {INSTALL.format(f'.[{extra}]' if extra else '.')}"
