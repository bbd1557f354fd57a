"""Pairs as token ids in one array: the same pairs, in the memory of their ids."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data.chat import Message
from experiments.data.preferences import Answer, Preference
from experiments.data.tokens import Encoded
from experiments.model import random_model
from experiments.training import batches
from experiments.training.batches import EncodedPair

TEXTS = st.builds(Encoded, *[st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4)] * 2)
PAIRS = st.lists(st.builds(EncodedPair, st.text(max_size=3), TEXTS, TEXTS), max_size=5)


@given(PAIRS, st.slices(5))
def test_pairs_in_one_array_are_the_pairs_that_were_added(listed, places):
    flat = batches.EncodedPairs()
    for pair in listed:
        flat.append(pair)
    assert list(flat) == listed
    assert len(flat) == len(listed)
    assert flat[places] == listed[places]
    assert [flat[-place] for place in range(1, len(listed) + 1)] == listed[::-1]
    with pytest.raises(IndexError):
        flat[len(listed)]
    assert list(flat.texts) == [text for pair in listed for text in pair[1:]]


def test_a_pair_that_cannot_be_encoded_is_named_or_counted():
    codec = random_model.codec()
    prompts = ["1+1?", (Message("user", "1+1?"),), "2+2?"]
    pairs = [Preference(str(n), Answer(prompt, "2"), Answer(prompt, "3" * n)) for n, prompt in enumerate(prompts, 1)]
    counts = Counter()
    options = {"source": "data.jsonl", "is_chat": False, "max_tokens": 1000, "left_out": counts}
    messages = [Preference("4", Answer((*prompts[1], *prompts[1]), "2"), pairs[0].dispreferred)]
    with pytest.raises(ValueError, match=r"data\.jsonl, pair 4: messages must be put into the chat template"):
        batches.encode_pairs(pairs + messages, codec, **options)
    kept = batches.encode_pairs(messages + pairs, codec, **options, skip_broken=True)
    assert kept.ids == ["1", "2", "3"]
    assert counts == {"broken: messages must be put into the chat template": 1}
    assert [len(text.completion) for text in kept.texts] == [1, 1, 2, 3, 1, 3]  # " 2" behind "Answer:"
    assert batches.encode_pairs(pairs, codec, **options, most=2).ids == ["1", "2"]
    assert batches.encode_pairs(pairs, codec, **{**options, "max_tokens": 6}).ids == ["1"]


@pytest.mark.slow
def test_a_hundred_thousand_pairs_take_the_memory_of_their_ids(tmp_path):
    """In a process of its own, whose peak counts all that libraries take beside Python's own memory.

    Pairs as lists of integers took nine times as much.
    """
    path = tmp_path / "data.jsonl"
    with path.open("w") as file:
        for n in range(100_000):
            asked = [{"role": "system", "content": "Be brief."}] * (n % 3 == 0) + [{"role": "user", "content": f"Q{n}"}]
            sides = {
                name: [*asked, {"role": "assistant", "content": word * (10 + n % 7)}]
                for name, word in (("chosen", "right "), ("rejected", "wrong "))
            }
            file.write(json.dumps({"prompt": f"Q{n}", **sides}) + "\n" + ("{broken\n" if n == 50_000 else ""))
    script = f"""
import resource
from collections import Counter
from experiments.model import random_model
from experiments.pairs import pair_source
from experiments.training import batches

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # bytes, of kilobytes on Linux

def encoded(limit):
    source = pair_source.PairSource({str(path)!r}, held_out=0.0, skip_broken=True)
    pairs = pair_source.pairs(source, "train", seed=0, limit=limit, left_out=left_out)
    return batches.encode_pairs(
        pairs, random_model.codec(), source="", is_chat=True, max_tokens=1000, left_out=left_out, skip_broken=True
    )

left_out = Counter()
encoded(1000)  # what a block takes, whatever the file has
before = peak()
left_out.clear()
pairs = encoded(None)
print(len(pairs), sum(text.num_tokens for text in pairs.texts), peak() - before, dict(left_out))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, num_tokens, num_bytes, left_out = run.stdout.split(maxsplit=3)
    assert (int(count), left_out.strip()) == (100_000, "{'broken: is no JSON': 1}")
    # 4 bytes an id, 32 for the four ends of a pair, 8 for the place of its identifier and some 54 for the identifier;
    # a quarter for growing arrays.
    assert int(num_bytes) < 1.25 * (4 * int(num_tokens) + 100_000 * (32 + 8 + 54))
