import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from latex2mathml.converter import convert

from derivation import beyond_second_order, witness
from derivation import claim as claims
from derivation.catalogue import CATALOGUE
from derivation.claim import Claim, Mutant, Statement, Verdict, examine
from derivation.plain import plain, plain_text
from derivation.report import row

PRINTED = {
    # What the table of the post comes to when the post is taken at its word.
    "grpo-gradient": "refuted",
    "grpo-advantage": "refuted",
    "grpo-split": "refuted",
    "two-step": "refuted",
    "m-step": "proved",
    "warm-up": "refuted",
    "warm-up-epoch": "refuted",
    "four-way": "refuted",
    "eq-1": "refuted",
    "boxed": "proved",
    "large-b": "refuted",
    "entanglement": "proved",
    "bias-sign": "refuted",
    "lr-match": "refuted",
}
IDS = [entry.id for entry in CATALOGUE]


@pytest.mark.parametrize("identifier", IDS)
def test_claim_is_in_order(reports, identifier):
    report = reports[identifier]
    assert report.is_in_order, row(report).plain
    assert report.printed_status == PRINTED.get(identifier)
    assert report.claim.argument
    assert report.claim.assumptions
    assert report.claim.method


@pytest.mark.parametrize("identifier", IDS)
def test_every_refutation_has_a_witness_with_two_different_values(reports, identifier):
    report = reports[identifier]
    parts = [report.printed, *report.precise] if report.printed else list(report.precise)
    verdicts = [part.verdict for part in parts] + [verdict for _, verdict in report.mutants]
    for verdict in verdicts:
        if verdict.status == "refuted":
            assert verdict.witness is not None
            assert verdict.witness.left != verdict.witness.right
            # Exact: no decimal point anywhere.
            assert not re.search(r"\d\.\d", verdict.witness.left + verdict.witness.right)


def formulas(report):
    claim = report.claim
    parts = [*([claim.printed] if claim.printed else []), *claim.precise]
    prose = [*claim.argument, *claim.assumptions]
    return [part.latex for part in parts] + ([claim.post_line] if claim.post_line else []), prose


@pytest.mark.parametrize("identifier", IDS)
def test_every_formula_can_be_shown_in_a_terminal_and_on_a_page(reports, identifier):
    lines, prose = formulas(reports[identifier])
    inline = [part for paragraph in prose for part in paragraph.split("$")[1::2]]
    for latex in [*lines, *inline]:
        assert "\\" not in plain(latex)
        assert latex.count("{") == latex.count("}")
        root = ElementTree.fromstring(convert(latex.replace(r"\allowbreak", "")))
        # A command that the converter does not know stays in the text with its backslash.
        assert "\\" not in "".join(root.itertext())
    for paragraph in prose:
        assert paragraph.count("$") % 2 == 0
        assert "\\" not in plain_text(paragraph)


@pytest.mark.parametrize(
    ("identifier", "formula", "number", "word"),
    [
        ("third-order-reshuffling", beyond_second_order.third_order_reshuffling, 9, "Nine"),
        ("third-order-interleaving", beyond_second_order.third_order_random_start, 15, "Fifteen"),
        ("third-order-interleaving", beyond_second_order.third_order_start_bias, 10, "ten"),
        ("third-order-independent", beyond_second_order.third_order_independent, 19, "Nineteen"),
    ],
)
def test_numbers_of_terms_that_are_told_in_words_are_counted(reports, identifier, formula, number, word):
    assert len(formula().terms) == number
    assert word in reports[identifier].claim.finding


def test_catalogue_and_proofs_name_each_other():
    modules = {path.stem for path in Path(claims.__file__).with_name("claims").glob("*.py")} - {"__init__"}
    assert modules == {entry.module for entry in CATALOGUE}
    for entry in CATALOGUE:
        claims.load(entry)
    assert set(claims._REGISTRY) == set(IDS)
    assert len(IDS) == len(set(IDS))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", identifier) for identifier in IDS)


def stub_claim(status="proved", mutants=("refuted",), printed=None):
    """A claim whose procedures answer as asked."""
    losses = witness.Witness("x = 0", "1", "2")

    def verdict(name):
        return Verdict(name, losses if name == "refuted" else None)

    statement = Statement(
        "a = b", lambda: verdict(status), mutants=lambda: [Mutant("slip", lambda m=m: verdict(m)) for m in mutants]
    )
    as_printed = Statement("a = c", lambda: verdict(printed), expected="refuted") if printed else None
    return Claim("finding", as_printed, (statement,), ("none",), "by decree", ("because",))


@pytest.mark.parametrize(
    ("claim", "is_in_order"),
    [
        (stub_claim(), True),
        (stub_claim(printed="refuted"), True),
        (stub_claim(printed="proved"), False),  # a misprint that is not refuted
        (stub_claim(status="undecided"), False),
        (stub_claim(status="refuted"), False),
        (stub_claim(status="error"), False),
        (stub_claim(mutants=("refuted", "proved")), False),  # a procedure that lets a slip pass
        (stub_claim(mutants=("undecided",)), False),
        (stub_claim(mutants=()), False),  # nothing shows that the procedure can refute
    ],
)
def test_only_a_claim_that_holds_in_every_part_is_in_order(monkeypatch, claim, is_in_order):
    entry = CATALOGUE[0]
    claims.load(entry)
    monkeypatch.setitem(claims._REGISTRY, entry.id, lambda: claim)
    report = examine(entry)
    assert report.is_in_order is is_in_order
    if not is_in_order:
        assert "\n" in row(report).plain  # the table says what is wrong


def test_a_proof_that_raises_is_an_error_of_its_claim_alone(monkeypatch):
    entry = CATALOGUE[0]
    claims.load(entry)

    def broken():
        raise RuntimeError("lost the thread")

    monkeypatch.setitem(claims._REGISTRY, entry.id, broken)
    report = examine(entry)
    assert report.precise_status == "error"
    assert not report.is_in_order
    assert "lost the thread" in row(report).plain
