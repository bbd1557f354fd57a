"""What is not installed, in one line with the command that installs it."""

__all__ = ["INSTALL", "missing"]

INSTALL = "python -m pip install --constraint constraints.txt --editable '{}'"
"""To be typed in the project's folder; what is named is `.` or `.[EXTRA]`."""

_ROOMS = ("console", "derivation", "numerics", "experiments")
_EXTRAS = {  # of packages that one option or one command needs
    "datasets": "hub",
    "openai": "teacher",
    "pyarrow": "parquet",
    "ray": "ray",
    "tenacity": "teacher",
    "tensorboardX": "tensorboard",
}


def missing(error: ImportError, extra: str = "") -> str | None:
    """The line for a command that cannot be carried out; None where no package is missing, but a module of our own.

    Args:
        error: What importing raised, or what was raised with a line of its own.
        extra: The extra of this project that the command needs; empty for none.
    """
    cause = error if isinstance(error, ModuleNotFoundError) else error.__cause__  # of loading a command
    if not isinstance(cause, ModuleNotFoundError):
        return None
    if cause.name is None:
        return str(cause)
    package = cause.name.partition(".")[0]
    if package in _ROOMS:
        return None
    extra = _EXTRAS.get(package, extra)
    return f"{package} must be installed. In the project's folder: {INSTALL.format(f'.[{extra}]' if extra else '.')}"
