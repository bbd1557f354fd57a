"""How long the proofs take from a cold start, and closed forms against brute-force enumeration.

    python -m pytest benchmarks

Times are compared inside one run only (the numbers in brackets are ratios to the fastest of a group).
"""

import subprocess
import sys
from itertools import permutations

import pytest

from derivation.averages import MEANS, at, enumerated, interleaved, over_permutations
from derivation.series import universal
from derivation.trees import Label

SIDES = ("-", "+")


def run(*arguments):
    subprocess.run([sys.executable, "-m", "derivation.check", *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.benchmark(group="python -m derivation.check, whole process", disable_gc=True)
@pytest.mark.parametrize(
    "arguments", [(), ("--list",), ("--help",)], ids=["all claims and mutants", "--list", "--help"]
)
def test_command(benchmark, arguments):
    benchmark.pedantic(run, args=arguments, rounds=3, warmup_rounds=0)


def closed_form(order, num_pairs):
    return at(over_permutations(interleaved(universal(order), SIDES)), MEANS, num_pairs)


def brute_force(order, num_pairs):
    words = ([Label(side, k) for k in order_ for side in SIDES] for order_ in permutations(range(1, num_pairs + 1)))
    return enumerated(words, order)


CASES = [(order, num_pairs) for order in (2, 3) for num_pairs in (2, 3, 4, 5)]


@pytest.mark.parametrize("method", [closed_form, brute_force], ids=["closed form, then put in n", "enumeration"])
@pytest.mark.parametrize(("order", "num_pairs"), CASES)
def test_mean_over_permutations(benchmark, order, num_pairs, method):
    benchmark.group = f"mean over permutations of n = {num_pairs} pairs, order {order}"
    result = benchmark.pedantic(method, args=(order, num_pairs), rounds=3, warmup_rounds=1)
    assert result
    if num_pairs < 4:
        assert result == closed_form(order, num_pairs)
