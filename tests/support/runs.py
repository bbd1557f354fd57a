"""A run so small that compiling is all it takes: shared by test_loop.py and the processes that it kills.

Called as a script it makes one run over and over while processes that make it are killed, and says what became of it.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from experiments import arms, config, presets, records
from experiments.data import tokens
from experiments.model import parameters, random_model
from experiments.training import batches, inputs, language_task, loop
from tests.support.kills import Killer, in_a_child
from tests.support.tiny_models import SMALLEST as ARCHITECTURE

NUM_PAIRS, NUM_UPDATES = 4, 6


def configuration(arm="sequential-random-start", **settings):
    """Six updates of four of six pairs: an epoch ends within an update."""
    values = {
        "num_pairs": NUM_PAIRS,
        "num_updates": NUM_UPDATES,
        "checkpoint_every": 1,
        "measures.accuracy_every": 0,
        "measures.alignment_every": 0,
        **settings,
    }
    return config.with_settings(presets.config("tiny", arms.parse(arm)), values)


def run_inputs(seed=0, data_seed=0):
    """Random parameters, and random texts of several lengths."""
    chance = np.random.default_rng(data_seed)

    def text(num_tokens):
        return chance.integers(0, ARCHITECTURE.vocabulary, num_tokens).tolist()

    def pair(name):
        prompt = text(4)
        sides = (tokens.Encoded(prompt, text(int(chance.integers(2, 7)))) for _ in range(2))
        return batches.EncodedPair(name, *sides)

    pairs = [pair(str(number)) for number in range(10)]
    params = parameters.init(ARCHITECTURE, jax.random.key(seed))
    probe, more = (
        batches.pair_batch([p.preferred for p in half], [p.dispreferred for p in half], "token-half", (16, 8))
        for half in (pairs[6:8], pairs[8:])
    )
    return inputs.RunInputs(
        params,
        ARCHITECTURE,
        random_model.codec(),
        pairs[:6],
        Counter(),
        (probe, more),
        [],
        None,
        inputs.fingerprint(params, pairs),
    )


@contextmanager
def quiet(what, total, unit):
    yield lambda done, note="": None


def rows(folder, without=records.TIMINGS):
    """The lines of updates, as text, for NaN differs from itself."""
    return [
        json.dumps({key: value for key, value in record.items() if key not in without}, sort_keys=True)
        for record in read(folder)
        if record["kind"] == "update"
    ]


def read(folder):
    """All lines."""
    return [json.loads(line) for line in (folder / records.RECORDS).read_bytes().splitlines()]


def end(folder):
    """The last line, which says how the run ended."""
    last = read(folder)[-1]
    assert last["kind"] == "end"
    return last


def arrays(folder, number=NUM_UPDATES):
    """The bytes of the parameters and the moments."""
    return (folder / records.CHECKPOINTS / f"{number:08}" / "arrays.safetensors").read_bytes()


# Kills ----------------------------------------------------------------------------------------------------------------


def make(folder, say=lambda word: None, steps=0):
    @contextmanager
    def show(what, total, unit):
        say(b"ready\n")
        if steps:
            sys.addaudithook(Killer(steps))
        yield lambda done, note="": None if note.endswith("compiling") else say(b"made\n")

    task = language_task.of(configuration(), run_inputs())
    return loop.run(configuration(), task, folder, header={"commit": None}, show=show)


def state_of(folder):
    """What a kill left behind."""
    places = [entry.name for entry in (folder / records.CHECKPOINTS).glob("*")]
    lines = (folder / records.RECORDS).read_bytes() if (folder / records.RECORDS).exists() else b""
    newest = max((int(name) for name in places if name.isdecimal()), default=-1)
    made = [json.loads(line) for line in lines[: lines.rfind(b"\n") + 1].splitlines()]
    last = max((row["update"] for row in made if row["kind"] == "update"), default=-1)
    return {"while saving": any("." in name for name in places), "behind": last > newest, "newest": newest}


def killed(folder, num_kills, seed):
    """Runs that are killed at random moments and resumed, one after another, until that many kills have met one.

    The processes are forked before JAX has started its threads, so that only the computation is left to do.
    """
    moments = random.Random(seed)
    met = trial = 0
    while met < num_kills:
        trial += 1
        mine = folder / str(trial)
        mine.mkdir()
        while True:
            reader, writer = os.pipe()
            # By the clock from the first line on, by the clock from the first update on, or by what is being written.
            how = moments.choice(["ready", "made", "steps"])
            steps = moments.randrange(1, 120) if how == "steps" else 0
            child = os.fork()
            if child == 0:
                os.close(reader)
                status = 1
                try:
                    make(mine, lambda word, to=writer: os.write(to, word), steps)
                    status = 0
                finally:
                    os._exit(status)
            os.close(writer)
            with os.fdopen(reader, "rb") as file:
                if how != "steps":
                    while file.readline().strip() not in (how.encode(), b""):
                        pass
                    time.sleep(moments.uniform(0, 1.0 if how == "ready" else 0.15))
                    os.kill(child, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status == 0:
                break
            assert status == -signal.SIGKILL, status
            met += 1
            print(json.dumps({"folder": str(mine), "how": how, **state_of(mine)}), flush=True)
            if met >= num_kills and how != "steps":
                assert in_a_child(lambda folder=mine: make(folder)) == 0
                break
        print(json.dumps({"folder": str(mine), "how": "done"}), flush=True)


def main():
    folder, num_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    whole = folder / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    assert in_a_child(lambda: make(whole)) == 0
    killed(folder, num_kills, seed)


if __name__ == "__main__":
    main()
