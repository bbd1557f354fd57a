"""Gradient and decoding of SmolLM2 beside torch and transformers: same texts, same cores, turn about; ratios printed.

Needs the extra `reference`, SMOLLM2 (a folder made by `fetch smollm2`) and, for the lengths of real pairs, GSM8K_DATA;
without it the lengths are those of generated problems. A ratio of seconds counts only on cores that nobody else uses:
two threads that wait for each other lose far more by a third one than their share, so what others took is printed.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from experiments.data import data_sources, tokens
from experiments.pairs import corruption

ROUNDS, REPEATS = 2, 3
NUM_PAIRS, NUM_PROMPTS = 4, 16


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if "SMOLLM2" not in os.environ:
        pytest.skip("SMOLLM2 is not set")
    return Path(os.environ["SMOLLM2"])


def others():
    """Seconds that cores have worked for anybody but our children, as Linux counts them."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - ours.ru_utime - ours.ru_stime


def compared(task, texts, model, tmp_path):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(texts))
    runs_of = {"ours": [], "theirs": []}
    started, elsewhere = time.monotonic(), others()
    for _ in range(ROUNDS):
        for side, runs in runs_of.items():
            command = [sys.executable, str(Path(__file__).with_name("language_model.py")), side, task]
            done = subprocess.run(
                [*command, str(path), str(model), str(REPEATS)], capture_output=True, text=True, check=True
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {side: statistics.median(s for run in runs for s in run["seconds"]) for side, runs in runs_of.items()}
    peaks = {side: max(run["peak"] for run in runs) / 1e9 for side, runs in runs_of.items()}
    return seconds, peaks, (others() - elsewhere) / (time.monotonic() - started)


def pairs():
    source = os.environ.get("GSM8K_DATA", "generated")
    corruptions = (corruption.corrupt(problem, seed=0) for problem in data_sources.problems(source, "train"))
    return source, islice((pair for pair in corruptions if isinstance(pair, corruption.Corruption)), NUM_PAIRS)


def test_gradient(model, tmp_path, capsys):
    codec = tokens.load(model)
    source, several = pairs()
    texts = [
        codec.encoded(pair.question, solution, is_chat=True)
        for pair in several
        for solution in (pair.preferred, pair.dispreferred)
    ]
    seconds, peaks, share = compared("gradient", texts, model, tmp_path)
    with capsys.disabled():
        count = sum(len(text.prompt) + len(text.completion) for text in texts)
        print(f"\ngradient of {len(texts)} texts ({source if source == 'generated' else 'GSM8K'}), {count} tokens:")
        for side in ("ours", "theirs"):
            print(f"  {side:<7}{seconds[side]:6.2f} s {peaks[side]:6.2f} GB")
        print(f"  ratio  {seconds['ours'] / seconds['theirs']:6.2f}   {peaks['ours'] / peaks['theirs']:6.2f}")
        print(f"  others took {share:.0%} of a core meanwhile")


def test_decoding(model, tmp_path, capsys):
    codec = tokens.load(model)
    problems = islice(data_sources.problems(os.environ.get("GSM8K_DATA", "generated"), "test"), NUM_PROMPTS)
    texts = [codec.encoded(problem.question, "x", is_chat=True) for problem in problems]
    seconds, peaks, share = compared("decoding", texts, model, tmp_path)
    with capsys.disabled():
        print(f"\ndecoding 64 tokens of {len(texts)} prompts:")
        for side in ("ours", "theirs"):
            print(f"  {side:<7}{64 * len(texts) / seconds[side]:6.0f} tokens/s {peaks[side]:6.2f} GB")
        print(f"  ratio  {seconds['theirs'] / seconds['ours']:6.2f}            {peaks['ours'] / peaks['theirs']:6.2f}")
        print(f"  others took {share:.0%} of a core meanwhile")
