"""One side of test_language_model_speed.py, in a process of its own: prints seconds and peak memory as JSON.

python benchmarks/language_model.py {ours,theirs} {gradient,decoding} TEXTS MODEL REPEATS
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

NUM_NEW = 64


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    run()  # compiles, and touches every page
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def ours(task: str, texts: list[tuple[list[int], list[int]]], model: Path) -> Callable[[], object]:
    import jax

    from experiments.data import tokens
    from experiments.model import decoding, objectives, pretrained

    params, architecture = pretrained.load(model)
    if task == "gradient":
        count = sum(len(completion) for _, completion in texts)
        batch = tokens.batch([tokens.Encoded(*text) for text in texts], [1 / count] * len(texts), multiple=16)
        gradient = jax.jit(jax.value_and_grad(objectives.negative_log_likelihood(architecture)))
        return lambda: jax.block_until_ready(gradient(params, batch))[0]
    width = max(len(prompt) for prompt, _ in texts)
    rows = np.zeros((len(texts), width), np.int32)
    for row, (prompt, _) in zip(rows, texts, strict=True):
        row[: len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt, _ in texts], np.int32)
    # No token of the vocabulary: all texts are as long as the limit, for both sides.
    return lambda: jax.block_until_ready(
        decoding.greedy(params, architecture, rows, lengths, stop_tokens=(-1,), max_new_tokens=NUM_NEW)
    )


def theirs(task: str, texts: list[tuple[list[int], list[int]]], model: Path) -> Callable[[], object]:
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM  # pyright: ignore[reportMissingImports]

    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    is_gradient = task == "gradient"
    longest = max(len(prompt) + is_gradient * len(completion) for prompt, completion in texts)
    ids = torch.full((len(texts), longest), 2)
    mask = torch.zeros((len(texts), longest), dtype=torch.long)
    labels = torch.full((len(texts), longest), -100)
    for row, (prompt, completion) in enumerate(texts):
        text = prompt + completion if is_gradient else prompt
        place = slice(0, len(text)) if is_gradient else slice(longest - len(text), longest)
        ids[row, place], mask[row, place] = torch.tensor(text), 1
        if is_gradient:
            labels[row, len(prompt) : len(text)] = torch.tensor(completion)

    def gradient() -> float:
        policy.zero_grad(set_to_none=True)
        loss = policy(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        return loss.item()

    def decode() -> object:
        return policy.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=NUM_NEW, min_new_tokens=NUM_NEW, do_sample=False
        )

    return gradient if is_gradient else decode


def main() -> None:
    side, task, texts, model, repeats = sys.argv[1:]
    run = {"ours": ours, "theirs": theirs}[side](task, json.loads(Path(texts).read_text()), Path(model))
    seconds = timed(run, int(repeats))
    # Linux counts in kibibytes.
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
