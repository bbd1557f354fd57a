"""The teacher: an endpoint that misbehaves, answers that are checked, a cache that outlives its writer, a report."""

import asyncio
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from email.utils import formatdate
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("openai", reason="the extra 'teacher' is not installed")

from experiments.commands import teacher
from experiments.data import gsm8k, reasoning, word_problems
from experiments.teacher import refusals, replies, solutions
from experiments.teacher import settings as teacher_settings
from experiments.teacher.replies import Reply
from experiments.teacher.settings import Settings
from experiments.teacher.store import BrokenStoreError, Store, key
from tests.support.misbehaving_server import (
    answer,
    body,
    hang,
    message_answer,
    raw,
    refusing,
    reset,
    serving,
    status,
    trickle,
    truncated,
)

ROOT = Path(__file__).parents[3]
RIGHT = "Together that is 1+2 = <<1+2=3>>3.\n#### 3"
WRONG = "Together that is 1+2 = <<1+2=4>>4.\n#### 4"
KEY = "sk-a-key-that-nobody-may-see"


def data_folder(folder, num_problems):
    """Problems whose answer is 3, each with a question of its own."""
    folder.mkdir()
    records = [{"question": f"question {i}", "answer": "It is 3.\n#### 3"} for i in range(num_problems)]
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def rows(path):
    """The content of a database of answers, read without the program."""
    with closing(sqlite3.connect(path)) as database:
        texts = database.execute("SELECT request, reply FROM answers ORDER BY id").fetchall()
    return [{"request": json.loads(request), "reply": json.loads(reply)} for request, reply in texts]


def earlier_cache(path, entries):
    """A cache as earlier versions wrote it: JSON lines with the hashes of requests and replies."""

    def digest(content):
        return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    records = [
        {"key": digest(asked), "check": digest(reply), "request": asked, "reply": reply} for asked, reply in entries
    ]
    path.write_bytes("".join(json.dumps(record) + "\n" for record in records).encode("ascii"))
    return path


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def ask(tmp_path, capsys):
    """Runs the command on problems whose answer is 3; impatient, but not so that a busy machine would matter."""

    class Run:
        def __init__(self, url, *arguments, num_problems=1):
            data = tmp_path / "data"
            if not data.exists():
                data_folder(data, num_problems)
            self.out = tmp_path / "out"
            options = {"--max-wait": "0.2", "--timeout": "20", "--retries": "2", "--concurrency": "1"}
            given = [part for item in options.items() if item[0] not in arguments for part in item]
            start = time.monotonic()
            self.status = teacher.main(
                ["--data", str(data), "--out", str(self.out), "--base-url", url, *given, *arguments]
            )
            self.seconds = time.monotonic() - start
            self.shown, self.errors = capsys.readouterr()

        @property
        def cached(self):
            """The requests and replies in the order in which they were paid for."""
            return rows(self.out / "teacher-cache.sqlite3")

        def written(self, name="train.jsonl"):
            return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

        def row(self, name):
            """The three columns of a row of the report."""
            (line,) = [line for line in self.shown.splitlines() if line.strip().startswith(f"{name}  ")]
            return line.strip().removeprefix(name).split()

    return Run


# An endpoint that misbehaves ------------------------------------------------------------------------------------------


HTML = raw(b"<html>\x1b[31mWelcome</html>", content_type="text/html")
PASSING = {
    "connection reset": (reset, "The connection failed: [Errno 104]"),
    "closed without an answer": (hang(0), "The connection failed: Server disconnected"),
    "half a body": (truncated(RIGHT), "The connection failed: peer closed connection"),
    "not HTTP": (lambda handler: handler.wfile.write(b"hello\r\n\r\n"), "The connection failed: "),
    "429": (status(429, "slow down"), "answers 429: 'slow down'"),
    "500": (status(500), "answers 500: 'it broke'"),
    "503 in HTML": (raw(b"<h1>Busy</h1>", 503, "text/html"), "answers 503: '<h1>Busy</h1>'"),
    "invalid JSON": (raw(b'{"choices": ['), "Status 200, but no completion (application/json; not JSON)"),
    "an empty body": (raw(b""), "Status 200, but no completion (application/json; not JSON): ''"),
    "not UTF-8": (raw(b'{"choices": ["\xff"]}'), "Status 200, but no completion (application/json; not JSON)"),
    "nested too deeply": (raw(b"[" * 100_000), "Status 200, but no completion (application/json; not JSON)"),
    "HTML with status 200": (HTML, "no completion (text/html; not JSON): '<html> [31mWelcome</html>'. Is --base-url"),
    "an error with status 200": (raw(b'{"error": {"message": "overloaded"}}'), 'no list of choices): \'{"error"'),
    "a list": (raw(b"[]"), "no list of choices"),
}
FINAL = {
    "no quota": (status(429, "You exceeded it", "insufficient_quota"), ["The quota is used up", "You exceeded it"]),
    "payment required": (status(402, "no credit"), ["The quota is used up", "no credit"]),
    "a bad key": (status(401, "no such key"), ["The key is refused. Set OPENAI_API_KEY", "no such key"]),
    "forbidden": (status(403, "not this model"), ["The key is refused. Set OPENAI_API_KEY", "not this model"]),
    "an unknown model": (status(404, "no such model"), ["Check --model (gpt-4o) and --base-url", "no such model"]),
    "an unknown path": (raw(b"nothing here", 404, "text/plain"), ["Check --model", "nothing here"]),
    "an odd error": (raw(b'{"error": {"type": ["x"], "code": {}}}', 404), ["Check --model"]),
    "a redirect": (
        status(307, Location="https://me:secret@elsewhere.example/v1/chat/completions?token=secret"),
        ["It redirects to https://elsewhere.example/v1/chat/completions. Give the address behind it as --base-url"],
    ),
    "a redirect to nowhere": (status(302, Location="http://[::1/"), ["It redirects to an address that cannot be read"]),
}
UNUSABLE = {
    "no choices": (answer("", choices=[]), "no text"),
    "choices that are none": (answer("", choices=[None]), "no text"),
    "no message": (answer("", choices=[{"finish_reason": "stop"}]), "no text"),
    "null content": (answer(None), "no text"),
    "content in parts, none a text": (answer([{"type": "image_url", "image_url": {"url": RIGHT}}, RIGHT]), "no text"),
    "a refusal": (message_answer(content=None, refusal="I cannot help with that."), "no text"),
    "a refusal in parts": (answer([{"type": "refusal", "refusal": RIGHT}]), "no text"),
    "nothing but reasoning": (message_answer(content="", reasoning=RIGHT), "no text"),
    "reasoning that is not closed": (answer(f"<think>\n{RIGHT}"), "no text"),
    "right in the reasoning alone": (answer(f"<think>{RIGHT}</think>{WRONG}"), "wrong"),
    "cut off in the model": (answer(RIGHT, "model_length"), "cut off"),  # Mistral's context is full
    "cut off behind Anthropic": (answer(RIGHT, "max_tokens"), "cut off"),
    "an overloaded server": (answer(RIGHT, "insufficient_system_resource"), "cut off"),  # DeepSeek
    "blank content": (answer(" \n"), "no text"),
    "half a character": (answer("\ud800\n#### 3"), "no text"),
    "cut off": (answer(RIGHT, "length"), "cut off"),
    "filtered": (answer(RIGHT, "content_filter"), "cut off"),
    "no finish reason": (answer(RIGHT, None), "cut off"),
    "no final line": (answer("It is 3."), "no final line"),
    "a final line that goes on": (answer(RIGHT + " pencils"), "no final line"),
    "wrong": (answer(WRONG), "wrong"),
    "two answers, the last right": (answer("#### 4\n#### 3"), "wrong"),
    "two answers, the first right": (answer("#### 3\n#### 4"), "wrong"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_tried_again_and_given_up_in_time(ask, name):
    behaviour, message = PASSING[name]
    with serving([behaviour]) as server:
        run = ask(server.url)
        assert len(server.asked) == 3
    assert run.status == 1
    assert run.seconds < 5
    assert message in run.shown.rpartition("the last that was given up: ")[2]
    assert "Tried 3 times (--retries)." in run.shown
    assert "\x1b" not in run.shown + run.errors
    assert "0 solved, 0 never solved, 1 given up" in run.shown
    assert run.row("requests sent") == ["3"]
    assert run.row("of these tried again") == ["2"]
    assert run.cached == []
    assert run.written() == []
    assert run.written("unsolved.jsonl")[0]["id"] == "train-1"


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_no_loss(ask, name):
    with serving([PASSING[name][0], answer(RIGHT)]) as server:
        run = ask(server.url)
        assert len(server.asked) == 2
        assert server.asked[0].payload == server.asked[1].payload
    assert run.status == 0
    assert [record["answer"] for record in run.written()] == [RIGHT]
    assert run.row("of these tried again") == ["1"]
    assert len(run.cached) == 1


@pytest.mark.parametrize("name", FINAL)
def test_what_cannot_pass_is_asked_once(ask, name):
    behaviour, messages = FINAL[name]
    with serving([behaviour]) as server:
        run = ask(server.url, num_problems=20)
        assert len(server.asked) == 1
    assert run.status == 1
    for message in messages:
        assert message in run.errors
    assert "secret" not in run.shown + run.errors
    assert "Stopped after 1 of 20 problems; nothing is written." in run.errors
    assert run.row("requests sent") == ["1"]
    assert not (run.out / "train.jsonl").exists()


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_was_paid_for_and_is_no_use_is_kept_and_another_asked_for(ask, name):
    behaviour, verdict = UNUSABLE[name]
    with serving([behaviour, behaviour, answer(RIGHT)]) as server:
        run = ask(server.url, "--retries", "0")
        payloads = [asked.payload for asked in server.asked]
        assert len(payloads) == 3
        again = ask(server.url)
        assert len(server.asked) == 3
    assert run.status == again.status == 0
    assert [payload["temperature"] == 0 for payload in payloads] == [True, False, False]
    assert len({payload["seed"] for payload in payloads}) == 3
    assert len(run.cached) == 3
    assert run.row(verdict) == ["2", "0", "2"]
    assert run.row("right") == ["1", "0", "1"]
    assert again.row(verdict) == ["0", "2", "2"]
    assert again.row("requests sent") == ["0"]
    assert run.written()[0]["attempt"] == 3
    assert run.written() == again.written()


def test_a_refused_request_is_not_repeated_and_the_others_are_asked(ask):
    def script(asked):
        return status(400, "too long", "context_length_exceeded") if asked.question == "question 1" else answer(RIGHT)

    with serving(script) as server:
        run = ask(server.url, num_problems=3)
        assert len(server.asked) == 3
    assert run.status == 1
    assert "2 solved, 0 never solved, 1 given up\ngiven up: train-2\n" in run.shown
    assert "answers 400: 'too long'. It does not accept this request." in run.shown
    assert [record["id"] for record in run.written()] == ["train-1", "train-3"]
    (unsolved,) = run.written("unsolved.jsonl")
    assert (unsolved["id"], unsolved["verdicts"]) == ("train-2", [])
    assert "too long" in unsolved["given_up"]


def test_nobody_listens(ask):
    with serving() as server:
        pass
    run = ask(server.url)
    assert run.status == 1
    assert "Connect" in run.shown
    assert "127.0.0.1" in run.shown


def test_an_endpoint_that_is_down_is_not_asked_everything(ask):
    with serving([status(500)]) as server:
        run = ask(server.url, "--concurrency", "4", "--retries", "1", num_problems=100)
        assert 8 <= len(server.asked) <= 2 * (4 + 3)  # four in a row, and what was in flight then
    assert run.status == 1
    assert "gave no answer to 4 problems in a row; the last time:" in run.errors
    assert "run again to go on" in run.errors


def test_failures_with_answers_in_between_end_nothing(ask):
    def script(asked):
        return status(500) if int(asked.question.split()[1]) % 3 else answer(RIGHT)

    with serving(script) as server:
        run = ask(server.url, "--retries", "0", num_problems=15)
        assert len(server.asked) == 15
    assert "5 solved, 0 never solved, 10 given up" in run.shown
    assert len(run.written()) == 5


def test_answers_from_the_cache_are_no_sign_of_life(ask):
    with serving(lambda asked: status(500) if int(asked.question.split()[1]) % 2 else answer(RIGHT)) as server:
        ask(server.url, "--retries", "0", num_problems=20)
        server.script, num_asked = [status(500)], len(server.asked)
        run = ask(server.url, "--retries", "0")
        assert len(server.asked) == num_asked + 3
    assert "gave no answer to 3 problems in a row" in run.errors


@pytest.mark.parametrize("behaviour", [hang(30), trickle(RIGHT, 0.02)], ids=["silence", "one byte at a time"])
def test_an_answer_must_be_whole_in_time(ask, behaviour):
    with serving([behaviour]) as server:
        run = ask(server.url, "--timeout", "0.5", "--retries", "1")
        assert len(server.asked) == 2
    assert run.seconds < 5
    assert "No whole answer came within 0.5 s (--timeout). Tried 2 times (--retries)." in run.shown


# Servers that speak the same language differently ---------------------------------------------------------------------


RENAMED = "--rename max_tokens=max_completion_tokens"
REMEDIES = [
    ("OpenAI, max_tokens", "max_tokens", f"Run again with {RENAMED}."),
    ("OpenAI, temperature", "temperature", "Run again with --omit temperature."),
    ("OpenAI, unknown", "seed", "Run again with --omit seed (or --rename seed=random_seed, Mistral's name for it)."),
    ("OpenAI, unknown, newer", "temperature", "Run again with --omit temperature."),
    ("Mistral", "seed", "Run again with --omit seed (or --rename seed=random_seed, Mistral's name for it)."),
    ("Mistral, 2024", "seed", "Run again with --omit seed (or"),
    ("Azure AI", "seed", "Run again with --omit seed (or"),
    ("Gemini", "seed", "Run again with --omit seed (or"),
    ("Groq", "max_tokens", f"Run again with --omit max_tokens (or {RENAMED}, OpenAI's newer name for it)."),
    ("Anthropic", "temperature", "Run again with --omit temperature."),
    ("Bedrock", "temperature", "Run again with --omit temperature."),
    ("litellm", "seed", "Run again with --omit seed (or"),
    ("NIM", "seed", "Run again with --omit seed (or"),
    ("vLLM", "seed", "Run again with --omit seed (or"),
    ("text-generation-inference", "temperature", "Run again with --omit temperature."),
]


@pytest.mark.parametrize(("dialect", "name", "remedy"), REMEDIES, ids=[f"{row[0]}: {row[1]}" for row in REMEDIES])
def test_the_first_refusal_of_a_parameter_ends_the_run_and_says_how_to_go_on(ask, dialect, name, remedy):
    with serving(refusing(dialect, name, then=answer(RIGHT))) as server:
        run = ask(server.url, num_problems=20)
        assert len(server.asked) == 2  # the other without cache_prompt, which might have been the reason
        assert run.status == 1
        assert remedy in run.errors
        assert "Stopped after 1 of 20 problems; nothing is written." in run.errors
        option, *value = re.findall(r"--\w+ [\w=]+", remedy)[0].split()
        again = ask(server.url, option, *value)
        assert len(server.asked) == 22
        assert again.status == 0
        payload = server.asked[-1].payload
    assert name not in payload
    assert payload.get("max_completion_tokens") == (512 if option == "--rename" else None)
    assert len(again.written()) == 20


def test_several_parameters_that_one_refusal_names(ask):
    text = "\n".join(
        f'Invalid JSON payload received. Unknown name "{n}": Cannot find field.' for n in ("seed", "temperature")
    )
    with serving([raw(json.dumps([{"error": {"code": 400, "message": text}}]).encode(), 400)]) as server:
        run = ask(server.url)
    assert "Run again with --omit temperature and --omit seed (or --rename seed=random_seed" in run.errors
    assert "answers 400: 'Invalid JSON payload received. Unknown name" in run.errors


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        # vLLM 0.11, entrypoints/openai: whether it fits depends on the question.
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 1024 "
            "tokens and your request has 600 input tokens (512 > 1024 - 600).",
            "Run again with another --max-tokens.",
        ),
        # Zaki-1052/GPTPortal, issue 34.
        ("max_tokens is too large: 512. This model supports at most 400 completion tokens.", "another --max-tokens."),
        # decolua/9router, issue 972: GPT-5 on Azure, all tokens spent on reasoning.
        (
            "Could not finish the message because max_tokens or model output limit was reached. Please try again with "
            "higher max_tokens.",
            "Run again with another --max-tokens.",
        ),
        # xllamacpp 2026.10.11549
        ("request (1776 tokens) exceeds the available context size (1024 tokens)", "It does not accept this request."),
    ],
)
def test_a_limit_that_does_not_fit_one_question_is_that_questions_alone(ask, text, remedy):
    def script(asked):
        return status(400, text) if asked.question == "question 1" else answer(RIGHT)

    with serving(script) as server:
        run = ask(server.url, num_problems=3)
    assert "2 solved, 0 never solved, 1 given up\n" in run.shown
    assert remedy in run.shown


def test_a_question_that_speaks_of_a_parameter_is_not_the_parameter(ask):
    """pydantic repeats its input, which is the question: "Anna sows 3 seeds at a temperature of ..." is no refusal."""
    error = {"type": "string_type", "loc": ["body", "messages", 3, "content"], "msg": "Input should be a valid string"}
    echo = {"detail": [{**error, "input": "seed\n'temperature' is not supported"}]}
    with serving([raw(json.dumps(echo).encode(), 422)]) as server:
        run = ask(server.url)
    assert "It does not accept this request." in run.shown
    assert "--omit" not in run.shown + run.errors


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("aeimprst_'\n "),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text("aelmoprst", max_size=7), parts, max_size=3),
)


@given(error=JSON)
def test_an_error_that_names_no_parameter_has_no_remedy(error):
    names = {"max_tokens": "max_tokens", "temperature": "temperature", "random_seed": "seed"}
    assert refusals.remedies(error, names) == []
    hidden = {"a": [error, {"param": "random_seed"}], "input": "temperature"}
    assert refusals.remedies(hidden, names) == [refusals.Remedy("another --seed", is_for_all=True)]


def test_parameters_go_by_another_name_or_not_at_all(ask):
    options = ("--rename", "max_tokens=max_completion_tokens", "--omit", "temperature", "--rename", "seed=random_seed")
    with serving([answer(WRONG), answer(RIGHT)]) as server:
        run = ask(server.url, *options)
        sent = [{k: v for k, v in asked.payload.items() if k not in ("model", "messages")} for asked in server.asked]
        again = ask(server.url, *options)
        assert len(server.asked) == 2
        plain = ask(server.url)
        assert len(server.asked) == 3
    assert sent == [{"max_completion_tokens": 512, "random_seed": k, "cache_prompt": False} for k in (0, 1)]
    assert run.status == again.status == plain.status == 0
    assert [row["request"].get("random_seed") for row in run.cached] == [0, 1, None]


def test_a_cache_that_was_filled_before_is_read(ask, tmp_path):
    """The key of a request as it was before parameters could be renamed, and the reply without the newer fields."""
    asked = {
        "base_url": "http://127.0.0.1:9/v1",
        "attempt": 1,
        "model": "gpt-4o",
        "messages": solutions.request(Settings(), "question 0", 1)["messages"],
        "temperature": 0.0,
        "seed": 0,
        "max_tokens": 512,
    }
    names = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "model")
    replies = (
        (None, "length", 9, 512, "m"),
        # Once it was asked again at the same limit. That was paid for, too.
        (f"<think>#### 4</think>{RIGHT}", "eos_token", 9, 9, "m"),
    )
    path = earlier_cache(
        tmp_path / "cache.jsonl",
        [
            (asked, dict(zip(names, replies[0], strict=True))),
            ({**asked, "attempt": 2, "temperature": 0.7, "seed": 1}, dict(zip(names, replies[1], strict=True))),
        ],
    )
    before = path.read_bytes()
    run = ask("http://127.0.0.1:9/v1", "--cache", str(path))
    assert run.status == 0
    assert run.row("requests sent") == ["0"]
    assert [record["answer"] for record in run.written()] == [RIGHT]
    assert f"{path}: its 2 answers are copied into {tmp_path / 'cache.sqlite3'}" in run.errors
    assert path.read_bytes() == before
    again = ask("http://127.0.0.1:9/v1", "--cache", str(path))
    assert again.written() == run.written()
    assert "copied" not in again.errors
    path.unlink()  # its answers are in the database, whose name the option still says
    assert ask("http://127.0.0.1:9/v1", "--cache", str(path)).written() == run.written()


def test_the_cache_of_an_earlier_version_in_the_folder_is_read_unasked(ask):
    with serving([answer(RIGHT)]) as server:
        run = ask(server.url)
        entries = [(row["request"], row["reply"]) for row in run.cached]
        (run.out / "teacher-cache.sqlite3").unlink()
        earlier_cache(run.out / "teacher-cache.jsonl", entries)
        again = ask(server.url)
        assert len(server.asked) == 1
    assert again.written() == run.written()
    assert again.cached == run.cached


# The first two are measured: the keys of caches that exist. Whoever changes the prompt changes them, and knows it.
def test_the_key_of_a_request_is_what_it_always_was():
    plain = Settings()
    assert (
        key(solutions.request(plain, "How many?", 1))
        == "fc2aca7a8f5554682159a637de8a182325bcc84ea0873f0216f3cb9775142402"
    )
    assert (
        key(solutions.request(Settings(seed=3), "How many?", 2))
        == "29e04d12324dbf23f2bd88cb521f49ca1b8b4f25ef1eeeec4e4ae4079adedf53"
    )


@pytest.mark.parametrize("dialect", ["OpenAI, unknown", "Mistral", "Gemini", "NIM"])
def test_the_hint_is_sent_until_it_is_refused(ask, dialect):
    with serving(refusing(dialect, "cache_prompt", then=answer(RIGHT))) as server:
        run = ask(server.url, "--retries", "0", num_problems=4)
        assert ["cache_prompt" in asked.payload for asked in server.asked] == [True, False, False, False, False]
    assert run.status == 0
    assert run.row("requests sent") == ["5"]
    assert all("cache_prompt" not in row["request"] for row in run.cached)


def test_the_hint_is_sent_for_good_once_it_is_accepted(ask):
    """A question that is refused for a reason of its own says nothing about the hint."""

    def script(asked):
        return status(400, "too long") if asked.question in ("question 0", "question 2") else answer(RIGHT)

    with serving(script) as server:
        run = ask(server.url, num_problems=4)
        sent = [(asked.question[-1], asked.payload.get("cache_prompt")) for asked in server.asked]
    assert sent == [("0", False), ("0", None), ("1", False), ("2", False), ("3", False)]
    assert "2 solved, 0 never solved, 2 given up" in run.shown


def test_the_hint_can_be_left_out_and_does_not_go_to_openai(ask, monkeypatch):
    with serving([answer(RIGHT)]) as server:
        ask(server.url, "--omit", "cache_prompt")
        monkeypatch.setattr(teacher_settings, "OPENAI_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        ask(server.url, "--seed", "1")
        assert [asked.payload.get("cache_prompt") for asked in server.asked] == [None, None]


# Why an answer has ended, by what servers say. The sources stand beside the names in experiments/replies.py.
@pytest.mark.parametrize(
    "reason",
    [
        "stop",
        "eos_token",  # huggingface/text-generation-inference, pull request 2344 and issue 1724
        "eos",  # openai/openai-dotnet, pull request 267: Together
        "stop_sequence",
        "end_turn",  # ferro-labs/ai-gateway, issue 142: Bedrock
        "COMPLETE",  # the same: Cohere
        "STOP",
    ],
)
def test_an_answer_that_the_model_ended_is_whole(ask, reason):
    with serving([answer(RIGHT, reason)]) as server:
        run = ask(server.url)
        assert len(server.asked) == 1
    assert run.row("right") == ["1", "0", "1"]
    assert run.cached[0]["reply"]["finish_reason"] == reason


SPENT = {
    "OpenAI": message_answer("length", content=None),
    "Azure": message_answer("length", content=""),
    "Gemini": message_answer("length"),  # the message has no content at all
    "vLLM": message_answer("length", content=None, reasoning=RIGHT),
    "DeepSeek": message_answer("length", content="", reasoning_content=RIGHT),
    "Mistral": answer([{"type": "thinking", "thinking": [{"type": "text", "text": RIGHT}]}], "length"),
    "Anthropic": message_answer("max_tokens", content=None),
    "in the text": answer(f"<think>\n{RIGHT}", "length"),
    "in a channel": answer(f"<|channel|>analysis<|message|>{RIGHT}", "length"),
}


@pytest.mark.parametrize("name", SPENT)
def test_a_limit_that_was_used_up_by_reasoning_is_named_and_not_asked_again(ask, name):
    def script(asked):
        return SPENT[name] if asked.question == "question 0" else answer(RIGHT)

    with serving(script) as server:
        run = ask(server.url, "--max-tokens", "300", num_problems=2)
        assert len(server.asked) == 2
        again = ask(server.url, "--max-tokens", "300")
        assert len(server.asked) == 2
        higher = ask(server.url, "--max-tokens", "3000")
        assert len(server.asked) == 4
    assert run.row("cut off") == ["1", "0", "1"]
    assert run.row("no text") == ["0", "0", "0"]
    for each in (run, again):
        assert "too long for --max-tokens 300 or the model: 1 answers, 1 of them\nbefore they began" in each.shown
    assert run.written("unsolved.jsonl") == again.written("unsolved.jsonl")
    assert higher.written("unsolved.jsonl")[0]["verdicts"] == ["cut off"]
    assert max(map(len, run.shown.replace(str(run.out), "").splitlines())) <= 80


def test_a_limit_that_is_too_low_for_every_problem_ends_the_run(ask):
    with serving([SPENT["OpenAI"]]) as server:
        run = ask(server.url, num_problems=20)
        assert len(server.asked) == 3
        again = ask(server.url)  # what is in the cache is no reason to stop
        assert len(server.asked) == 6
    for each in (run, again):
        assert each.status == 1
        assert "no answer to 3 problems in a row; the last time: All 512 tokens were used before" in each.errors


# One answer as each server sends it: the content and the fields beside it.
THOUGHT = "Is it 4?\n#### 4\nNo: <<1+1=2>>."
SHAPES = {
    "plain": {"content": RIGHT},
    "parts": {"content": [{"type": "text", "text": RIGHT[:20]}, {"type": "text", "text": RIGHT[20:]}]},
    # langchain4j/langchain4j, pull request 4474, and agentjido/req_llm, issue 742: Magistral and later
    "Mistral": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
            {"type": "text", "text": RIGHT},
        ]
    },
    "Anthropic's own parts": {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": RIGHT}]},
    "DeepSeek": {"content": RIGHT, "reasoning_content": THOUGHT},
    "vLLM 0.23": {"content": RIGHT, "reasoning": THOUGHT, "refusal": None},  # NVIDIA/NemoClaw, issue 8878
    "R1": {"content": f"<think>\n{THOUGHT}\n</think>\n\n{RIGHT}"},
    # vllm-project/vllm, issue 12999: the chat template holds the opening mark
    "R1 since its template opens": {"content": f"{THOUGHT}\n</think>\n\n{RIGHT}"},
    "Qwen3 without thinking": {"content": f"<think>\n\n</think>\n\n{RIGHT}"},
    "Gemini": {"content": f"<thought>{THOUGHT}</thought>{RIGHT}"},
    "Magistral": {"content": f"[THINK]{THOUGHT}[/THINK]{RIGHT}"},  # LostRuins/koboldcpp, pull request 1970
    "Seed-OSS": {"content": f"<seed:think>{THOUGHT}</seed:think>{RIGHT}"},  # anomalyco/opencode, issue 3703
    # smg-project/smg, issue 306
    "Command A": {
        "content": f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{RIGHT}<|END_RESPONSE|>",
    },
    # NousResearch/hermes-agent, pull request 67632
    "Gemma 4": {"content": f"<|channel>thought\n{THOUGHT}<channel|>{RIGHT}"},
    # kekzl/imp, pull request 768
    "gpt-oss": {
        "content": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{RIGHT}<|return|>",
    },
    # ggml-org/llama.cpp, pull request 15181: with --reasoning-format none
    "gpt-oss in llama.cpp": {"content": f"<|channel|>analysis<|message|>{THOUGHT}<|end|>{RIGHT}"},
    "gpt-oss, twice": {
        "content": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>commentary<|message|>"
        f"Now.<|end|><|start|>assistant<|channel|>final <|constrain|>text<|message|>{RIGHT}",
    },
    # oobabooga/textgen, issue 7374: the special tokens were dropped
    "gpt-oss without its tokens": {"content": f"analysis{THOUGHT}assistantfinal{RIGHT}"},
    # huggingface/text-generation-inference, issue 1724
    "its last token": {"content": f"{RIGHT}<|im_end|>\n"},
    "its last tokens": {"content": f"{RIGHT}\n<|eot_id|></s>"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_reasoning_is_neither_checked_nor_kept_in_a_solution(ask, name):
    with serving([message_answer(**SHAPES[name])]) as server:
        run = ask(server.url)
        assert len(server.asked) == 1
    assert run.row("right") == ["1", "0", "1"]
    assert run.row("right, without << >>") == ["0", "0", "0"]
    assert [record["answer"] for record in run.written()] == [RIGHT]
    # All that was paid for is in the cache, where a reader of the file finds it.
    paid = run.cached[0]["reply"]
    assert ("Is it 4?" in json.dumps(paid)) == ("Is it 4?" in json.dumps(SHAPES[name]))


def test_half_a_character_is_kept(tmp_path):
    reply = replies.read(json.dumps(body("\ud800\n#### 3")))
    assert reply.text == "\ud800\n#### 3"
    with closing(Store(tmp_path / "cache.sqlite3")) as store:
        store.add({}, reply)
    assert held(tmp_path / "cache.sqlite3", [{}]) == [reply]


def test_annotations_in_the_reasoning_are_none_of_the_answer(ask):
    with serving([answer("<think><<1+2=3>></think>It is 3.\n#### 3")]) as server:
        run = ask(server.url)
    assert run.row("right, without << >>") == ["1", "0", "1"]


@given(text=st.text(st.characters(exclude_characters="<>[]|", exclude_categories=["Cs"])))
def test_a_text_without_marks_is_the_answer(text):
    assert reasoning.without(text) == text.strip() or text.strip().startswith("analysis")


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>a",
        "<think></think>a",
        "<|channel|>final<|message|>a",
        "<|start|>",
        "<|",
        " ",
        "<|a|> ",
        "a ",
    ],
)
def test_a_text_of_marks_takes_linear_time(piece):
    start = time.process_time()
    reasoning.without(piece * 200_000 + "x")
    assert time.process_time() - start < 3  # 0.2 s; ten and more, were it quadratic


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ((20, 424, 444), (20, 424)),
        ((20, 424, 1016), (20, 996)),  # Clarifai/clarifai-python, pull request 978: Gemini, whose total alone has it
        ((20, 424, None), (20, 424)),
        ((20, 424, 0), (20, 424)),
        ((20, None, 444), (20, None)),
        ((None, 424, 444), (None, 424)),
    ],
)
def test_tokens_of_the_reasoning_are_counted(usage, counts):
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    reply = replies.read(json.dumps({**body(RIGHT), "usage": dict(zip(names, usage, strict=True))}))
    assert (reply.prompt_tokens, reply.completion_tokens) == counts


# Waiting --------------------------------------------------------------------------------------------------------------


def test_retry_after_is_honoured_within_the_limit(ask):
    with serving([status(429, Retry_After="0.4"), status(503, Retry_After="0.2"), answer(RIGHT)]) as server:
        assert ask(server.url, "--max-wait", "5").status == 0
        first, second, third = (asked.time for asked in server.asked)
    assert second - first >= 0.4
    assert third - second >= 0.2


# A date has a name of its own: its text differs between processes that collect the tests in different seconds.
AN_HOUR_AHEAD = pytest.param(formatdate(time.time() + 3600, usegmt=True), id="an hour ahead")
AN_HOUR_AGO = pytest.param(formatdate(time.time() - 3600, usegmt=True), id="an hour ago")


@pytest.mark.parametrize("demand", ["120", "1e9", "inf", AN_HOUR_AHEAD])
def test_retry_after_beyond_the_limit_is_given_up_at_once(ask, demand):
    with serving([status(429, Retry_After=demand)]) as server:
        run = ask(server.url, "--max-wait", "60")
        assert len(server.asked) == 1
    assert run.seconds < 5
    assert re.search(
        r"It asks to wait (120|1e\+09|inf|3[56]\d\d(\.\d+)?) s \(Retry-After\), which is more than --max-wait \(60 s\)",
        run.shown,
    )


@pytest.mark.parametrize("demand", ["-5", "nan", "soon", "", AN_HOUR_AGO])
def test_a_retry_after_that_asks_for_nothing_is_passed_over(ask, demand):
    with serving([status(429, Retry_After=demand), answer(RIGHT)]) as server:
        run = ask(server.url)
    assert run.status == 0
    assert run.seconds < 5


def test_all_waiting_together_is_bounded_and_each_wait_is_drawn_from_twice_the_last(ask, monkeypatch):
    sleep, waits = asyncio.sleep, []

    async def noted(delay, *arguments):
        waits.extend([delay] if delay else [])  # 0 is a turn for the others, which libraries take
        await sleep(delay, *arguments)

    monkeypatch.setattr(asyncio, "sleep", noted)
    with serving([status(500)]) as server:
        run = ask(server.url, "--max-wait", "0.4", "--retries", "1000000")
        assert len(server.asked) == len(waits) + 1
    assert all(0.5 <= wait / (0.4 / 128 * 2**k) <= 1 for k, wait in enumerate(waits))
    assert len({wait / 2**k for k, wait in enumerate(waits)}) == len(waits)
    assert sum(waits) <= 0.4
    assert len(waits) in (7, 8)  # 2^7 - 1 < 128, the shortest of eight add up to 255/256 of the limit
    assert "until --max-wait (0.4 s) was used up" in run.shown


def test_requests_in_flight_are_bounded_and_the_bound_is_used(ask):
    with serving([hang(0.05, answer(RIGHT))]) as server:
        run = ask(server.url, "--concurrency", "5", num_problems=40)
        assert server.most_at_once == 5
    assert run.status == 0
    assert len(run.written()) == 40


# Secrets --------------------------------------------------------------------------------------------------------------


def everything_shown_and_written(run):
    return run.shown + run.errors + "".join(path.read_bytes().decode(errors="replace") for path in run.out.iterdir())


def test_the_key_goes_into_the_header_and_nowhere_else(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    echoes = [status(500, f"not {KEY}!"), answer(f"Your key is {KEY}.\n#### 4"), raw(KEY.encode()), status(401, KEY)]
    with serving(echoes) as server:
        run = ask(server.url)
        assert len(server.asked) == 4
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
        assert all(KEY not in json.dumps(asked.payload) for asked in server.asked)
    assert KEY not in everything_shown_and_written(run)
    assert "Your key is ***." in run.cached[0]["reply"]["text"]


def test_a_password_in_the_address_is_used_and_not_shown(ask):
    with serving([answer(WRONG), status(404, "hunter2-and-more")]) as server:
        run = ask(server.url.replace("://", "://me:hunter2-and-more@"))
        assert all(asked.headers["authorization"].startswith("Basic ") for asked in server.asked)
    shown = everything_shown_and_written(run)
    assert "hunter2" not in shown
    assert server.url in shown
    assert run.cached[0]["request"]["base_url"] == server.url


def test_a_redirect_takes_nothing_elsewhere(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving([answer(RIGHT)]) as other, serving([status(308, Location=other.url + "/chat/completions")]) as server:
        run = ask(server.url)
        assert (len(server.asked), other.asked) == (1, [])
    assert f"It redirects to {other.url}/chat/completions" in run.errors


def test_a_key_that_is_no_header_is_refused_without_being_shown(ask, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Other: 1")
    with serving([answer(RIGHT)]) as server, pytest.raises(SystemExit):
        ask(server.url)
    error = capsys.readouterr().err
    assert "OPENAI_API_KEY must be one word" in error
    assert "sk-" not in error
    assert server.asked == []


def test_openai_itself_needs_a_key(tmp_path, capsys):
    data = data_folder(tmp_path / "data", 5)
    assert teacher.main(["--data", str(data), "--out", str(tmp_path / "out")]) == 1
    shown, errors = capsys.readouterr()
    assert "https://api.openai.com/v1 needs a key. Set OPENAI_API_KEY" in errors
    assert re.search(r"requests sent +0 ", shown)


def test_openai_is_needed_to_ask_and_not_to_read_the_cache(ask, monkeypatch):
    with serving([answer(RIGHT)]) as server:
        first = ask(server.url)
        monkeypatch.setitem(sys.modules, "openai", None)
        again = ask(server.url)
        other = ask(server.url, "--seed", "1")
    assert first.written() == again.written()
    assert again.status == 0
    assert other.status == 1
    assert "pip install '.[teacher]'" in other.errors


# Answers --------------------------------------------------------------------------------------------------------------


def test_the_example_in_the_prompt_is_what_it_asks_for():
    messages = solutions.request(Settings(), "How many?", 1)["messages"]
    assert isinstance(messages, list)
    system, _, example, question = messages
    assert question == {"role": "user", "content": "How many?"}
    lines = example["content"].splitlines()
    assert gsm8k.final_answer(example["content"]) == "87"
    for line in [*lines[:-1], system["content"]]:
        ((shown, inside, value),) = re.findall(r"([0-9*/+-]+) = \$?<<(.+?)=([0-9]+)>>(?=\3\b)", line)
        assert shown == inside
        ((left, sign, right),) = re.findall(r"^(\d+)(\D)(\d+)$", inside)
        a, b = Fraction(left), Fraction(right)
        assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign] == Fraction(value)


@given(
    value=st.fractions(-(10**6), 10**6, max_denominator=100).filter(lambda value: 100 % value.denominator == 0),
    other=st.integers(1, 10**6),
    style=st.sampled_from(["{:.2f}", "{:,.2f}", "${:,.2f}", " {:.3f} "]),
)
def test_an_answer_is_right_in_every_spelling_of_the_same_number_and_in_no_other(value, other, style):
    def verdict(number, finish_reason="stop"):
        text = f"So it is.\n#### {style.format(float(number)).replace('$-', '-$')}"
        return solutions.verdict(Reply(text=text, finish_reason=finish_reason), str(value))

    assert verdict(value) == "right"
    assert verdict(value + Fraction(other, 100)) == verdict(value - Fraction(other, 100)) == "wrong"
    assert verdict(value, "length") == "cut off"


def test_solutions_of_gsm8k_pass():
    if not os.environ.get("GSM8K_DATA"):
        pytest.skip("GSM8K_DATA names no folder")
    num_problems = 0
    for split in gsm8k.SPLITS:
        for problem in gsm8k.from_folder(Path(os.environ["GSM8K_DATA"]), split):
            assert solutions.verdict(Reply(text=problem.solution, finish_reason="stop"), problem.gold) == "right"
            num_problems += 1
    assert num_problems == 7473 + 1319


@settings(max_examples=15)
@given(
    script=st.lists(st.sampled_from(["right", "wrong", "500", "half"]), min_size=1, max_size=8),
    attempts=st.integers(1, 3),
    retries=st.integers(0, 2),
)
def test_every_script_is_followed_as_a_reader_would_follow_it(script, attempts, retries):
    behaviours = {"right": answer(RIGHT), "wrong": answer(WRONG), "500": status(500), "half": truncated(RIGHT)}
    # Cut the script where the run must end: too many failures together, enough answers, or a right one. The last entry
    # of a script goes on for ever.
    endless = script + [script[-1]] * 20
    ends = [
        n
        for n in range(1, len(endless) + 1)
        if endless[n - 1] == "right"
        or sum(entry == "wrong" for entry in endless[:n]) == attempts
        or (n > retries and not {"right", "wrong"} & set(endless[n - retries - 1 : n]))
    ]
    told = endless[: ends[0]]
    with serving([behaviours[name] for name in script]) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [f"--attempts={attempts}", f"--retries={retries}", "--max-wait=0.05", f"--base-url={server.url}"]
        data = data_folder(folder / "data", 1)
        code = teacher.main(["--data", str(data), "--out", str(folder / "out"), *chosen])
        assert len(server.asked) == len(told)
        texts = [row["reply"]["text"] for row in rows(folder / "out" / "teacher-cache.sqlite3")]
    assert texts == [{"right": RIGHT, "wrong": WRONG}[entry] for entry in told if entry in ("right", "wrong")]
    assert code == (0 if told[-1] == "right" else 1)


def test_never_solved_is_counted_listed_and_left_out(ask):
    def script(asked):
        return answer(WRONG if asked.question in ("question 0", "question 3") else RIGHT)

    with serving(script) as server:
        run = ask(server.url, "--attempts", "2", num_problems=4)
        assert len(server.asked) == 2 + 2 * 2
        again = ask(server.url, "--attempts", "2")
        assert len(server.asked) == 6
        more = ask(server.url, "--attempts", "3")
        assert len(server.asked) == 8
    assert run.status == again.status == more.status == 0
    assert "2 solved, 2 never solved, 0 given up\nnever solved: train-1, train-4\n" in run.shown
    assert [record["id"] for record in run.written()] == ["train-2", "train-3"]
    unsolved = run.written("unsolved.jsonl")
    assert [(record["id"], record["gold"]) for record in unsolved] == [("train-1", "3"), ("train-4", "3")]
    assert [record["verdicts"] for record in unsolved] == [["wrong"] * 3] * 2  # as the last run has it


def test_only_ids_that_fit_are_listed(ask):
    with serving([answer(WRONG)]) as server:
        run = ask(server.url, "--attempts", "1", num_problems=23)
    assert run.status == 1
    assert "train-20 and 3 more\n" in run.shown
    assert len(run.written("unsolved.jsonl")) == 23


def test_what_is_written_is_read_back_in_the_order_of_the_data(ask):
    def script(asked):
        number = int(asked.question.split()[1])
        return hang(0.01 * (12 - number), answer(f" It is {number} or ½ of it: <<1+2=3>>3.\n#### 3\n"))

    with serving(script) as server:
        run = ask(server.url, "--concurrency", "12", "--limit", "10", num_problems=12)
    problems = list(gsm8k.from_folder(run.out, "train"))
    assert [problem.question for problem in problems] == [f"question {i}" for i in range(10)]
    assert [problem.solution for problem in problems] == [
        f"It is {i} or ½ of it: <<1+2=3>>3.\n#### 3" for i in range(10)
    ]
    assert [record["id"] for record in run.written()] == [f"train-{i}" for i in range(1, 11)]
    assert {record["teacher"] for record in run.written()} == {"served-model"}


def test_the_report(ask):
    usages = {"question 0": (1000, 10), "question 1": (2345, 67), "question 2": None}

    def script(asked):
        usage = usages[asked.question]
        text = {"question 0": RIGHT, "question 1": "It is 3.\n#### 3", "question 2": RIGHT}[asked.question]
        return answer(text if asked.payload["temperature"] or asked.question != "question 0" else WRONG, usage=usage)

    prices = ("--price-in", "2.5", "--price-out", "10")
    with serving(script) as server:
        run = ask(server.url, *prices, num_problems=3)
        again = ask(server.url, *prices)
        unpriced = ask(server.url)
    prompt, completion = 2 * 1000 + 2345, 2 * 10 + 67
    cost = f"{float((Fraction(5, 2) * prompt + 10 * completion) / 10**6):.4f}"
    assert run.row("requests sent") == ["4"]
    assert run.row("answers") == ["4", "0", "4"]
    assert run.row("right") == ["3", "0", "3"]
    assert run.row("wrong") == ["1", "0", "1"]
    assert run.row("right, without << >>") == ["1", "0", "1"]
    assert run.row("prompt tokens") == [str(prompt), "0", str(prompt)]
    assert run.row("completion tokens") == [str(completion), "0", str(completion)]
    assert run.row("answers without a token count") == ["1", "0", "1"]
    assert run.row("cost") == [">", cost, "0.0000", ">", cost]
    assert again.row("cost") == ["0.0000", ">", cost, ">", cost]
    assert unpriced.row("cost") == ["price", "not", "given"] * 3
    assert "3 problems in " in run.shown
    for shown in (run.shown, unpriced.shown):
        assert max(map(len, shown.replace(str(run.out), "").splitlines())) <= 80
    assert run.errors.splitlines()[-1] == "asking: 3 of 3 problems, 3 solved"


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": -1, "completion_tokens": 10**30}, {"prompt_tokens": True}, [], "many"],
)
def test_a_token_count_that_is_none_is_not_believed(ask, usage):
    with serving([raw(json.dumps({**body(RIGHT), "usage": usage}).encode())]) as server:
        run = ask(server.url)
    assert run.row("answers without a token count") == ["1", "0", "1"]
    assert run.row("prompt tokens") == ["0", "0", "0"]


# The command's options ------------------------------------------------------------------------------------------------


def test_help_does_not_wait_for_openai_and_fits():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['openai', 'httpx2', 'jax', 'numpy']))\n"
        "from experiments.commands.teacher import main\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "--max-wait S" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    # The help names the defaults, so that it needs no settings.
    helps = {part.split()[0]: " ".join(part.split()) for part in done.stdout.split("\n  --")[1:]}
    for name in ("model", "concurrency", "attempts", "max-tokens", "timeout", "max-wait", "retries", "seed"):
        value = getattr(Settings(), name.replace("-", "_"))
        shown = value if name == "model" else format(value, "g")
        assert re.search(rf"default: {shown}(?![\w.-])", helps[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modle", "x"], "no such option: --modle. Did you mean --model?"),
        (["--split", "tran"], "Did you mean train?"),
        (["--limit", "0"], "at least 1"),
        (["--attempts", "two"], "at least 1"),
        (["--concurrency", "1001"], "--concurrency must be a whole number of at least 1 and at most 1000; got 1001."),
        (["--seed", "-1"], "at least 0"),
        (["--timeout", "0"], "a positive number"),
        (["--max-wait", "inf"], "a positive number"),
        (["--price-in", "-1"], "a number of at least 0"),
        (["--price-in", "1"], "--price-in and --price-out must be given together"),
        (["--base-url", "localhost:8080"], "--base-url must be http(s)://host[:port]/path; got localhost:8080."),
        (["--base-url", "http://me:secret@host:99999/v1"], "got host:99999/v1."),
        (["--base-url", "http://host/v1?key=1"], "--base-url must be"),
        (["--base-url", "http://two words/v1"], "--base-url must be"),
        (["--rename", "max_tokens"], "must be NAME=OTHER, as max_tokens=max_completion_tokens; got max_tokens."),
        (["--rename", "tokens=x"], "--rename must name one of temperature, seed, max_tokens; got tokens."),
        (["--rename", "cache_prompt=x"], "--rename must name one of"),
        (["--rename", "seed=temperature"], "must give seed a name that no other parameter has; got 'temperature'."),
        (["--rename", "seed=messages"], "must give seed a name that no other parameter has; got 'messages'."),
        (["--rename", "seed=a b"], "must give seed a name that no other parameter has; got 'a b'."),
        (["--rename", "seed=a", "--rename", "max_tokens=a"], "must give max_tokens a name that no other parameter has"),
        (["--rename", "seed=a", "--rename", "seed=b"], "must name a parameter once"),
        (["--rename", "seed=a", "--omit", "seed"], "must name a parameter once, and none that is left out; got seed"),
        (["--omit", "model"], "--omit must be one of temperature, seed, max_tokens, cache_prompt; got model."),
        (["--cache", "-"], "--cache must name a file of its own; got -."),
        (["--cache", "{out}/train.jsonl"], "--cache must name a file of its own"),
        (["--out", "{data}"], "--out must be another folder than --data"),
        (["--out", "{data}/train.jsonl"], "must be a folder; got the file"),
        (["--out", "{data}/train.jsonl/b"], "must be a folder that can be made"),
        (["--data", "{data}-two"], "There is no such folder"),
        (["--split", "test"], "test.jsonl must exist"),
    ],
)
def test_calls_that_cannot_be_carried_out(tmp_path, capsys, arguments, message):
    data = data_folder(tmp_path / "data", 1)
    places = {"data": data, "out": tmp_path / "out"}
    places["out"].mkdir()
    given = [argument.format(**places) for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        teacher.main(["--data", str(data), "--out", str(tmp_path / "out"), *given])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "secret" not in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in data.iterdir()] == ["train.jsonl"]


def test_generated_problems_are_solved_and_written(ask):
    problems = {problem.question: problem for problem in word_problems.generate(3, seed=5, split="test")}
    with serving(lambda asked: answer(problems[asked.question].solution)) as server:
        run = ask(server.url, "--data", "generated", "--split", "test", "--limit", "3", "--seed", "5")
        assert [asked.payload["seed"] for asked in server.asked] == [5] * 3
    assert run.status == 0
    assert [record["id"] for record in run.written()] == ["test-1", "test-2", "test-3"]
    assert [(record["question"], record["answer"]) for record in run.written()] == [
        (problem.question, problem.solution) for problem in problems.values()
    ]


def test_the_hub_needs_datasets(ask, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with serving([answer(RIGHT)]) as server, pytest.raises(SystemExit) as stop:
        ask(server.url, "--data", "hub")
    assert stop.value.code == 2
    assert "pip install '.[hub]'" in capsys.readouterr().err
    assert server.asked == []


def test_broken_lines_of_the_data(ask, tmp_path, capsys):
    data = data_folder(tmp_path / "data", 2)
    with (data / "train.jsonl").open("a") as file:
        file.write('{"question": "no answer"}\n')
    with serving([answer(RIGHT)]) as server:
        with pytest.raises(SystemExit):
            ask(server.url)
        assert "train.jsonl, line 3" in capsys.readouterr().err
        assert server.asked == []
        run = ask(server.url, "--skip-broken")
    assert run.status == 0
    assert len(run.written()) == 2
    assert "skipped: " in run.errors


# The cache ------------------------------------------------------------------------------------------------------------


REQUESTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3)
# As JSON can spell them, halves of characters among them.
TEXTS = st.none() | st.text(st.characters(), max_size=5)
REPLIES = st.builds(
    Reply,
    text=TEXTS,
    finish_reason=TEXTS,
    prompt_tokens=st.none() | st.integers(0, 999),
    completion_tokens=st.none() | st.integers(0, 999),
    model=TEXTS,
    reasoning=TEXTS,
    refusal=TEXTS,
)
ENTRIES = st.lists(st.tuples(REQUESTS, REPLIES), min_size=1, max_size=4)


@contextmanager
def folder_of(entries, *, is_earlier=False):
    """A database of these answers, or a cache of an earlier version."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("cache.jsonl" if is_earlier else "cache.sqlite3")
        if is_earlier:
            earlier_cache(path, [(asked, vars(reply)) for asked, reply in entries])
        else:
            with closing(Store(path)) as store:
                for asked, reply in entries:
                    store.add(asked, reply)
        yield path


def held(path, requests):
    """The replies that a store holds for these requests."""
    with closing(Store(path)) as store:
        return [store.reply(asked) for asked in requests]


@settings(max_examples=30)
@given(entries=ENTRIES)
def test_every_answer_is_read_back_and_the_last_to_a_request_counts(entries):
    with folder_of(entries) as path:
        expected = {key(asked): reply for asked, reply in entries}
        assert held(path, [asked for asked, _ in entries]) == [expected[key(asked)] for asked, _ in entries]
        assert [row["reply"] for row in rows(path)] == [vars(reply) for _, reply in entries]


@settings(max_examples=30)
@given(entries=ENTRIES, data=st.data())
def test_an_earlier_cache_cut_at_any_byte_loses_no_whole_line(entries, data):
    with folder_of(entries, is_earlier=True) as path:
        content = path.read_bytes()
        ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
        size = data.draw(st.sampled_from(ends) | st.integers(0, len(content)))
        path.write_bytes(content[:size])
        num_whole = sum(end <= size for end in ends)  # a line that lacks but its end is all there
        start = 0 if num_whole == 0 else ends[num_whole - 1] + 1
        expected = {key(asked): reply for asked, reply in entries[:num_whole]}
        with closing(Store(path)) as store:
            assert len(store) == len(expected)
            copied = f"{path}: its {len(expected)} answers are copied into {path.with_suffix('.sqlite3')};"
            assert [note for note in store.notes if copied in note] == store.notes[-1:] * bool(expected)
            for asked, _ in entries[:num_whole]:
                assert store.reply(asked) == expected[key(asked)]
            torn = f"a torn last line of {max(size - start, 0)} bytes"
            assert any(torn in note for note in store.notes) == (size > start)
            store.add({"another": None}, Reply(text="a reply"))
        assert path.read_bytes() == content[:size]
        with closing(Store(path)) as store:
            assert not any("copied" in note for note in store.notes)
            assert store.reply({"another": None}) == Reply(text="a reply")
            assert len(store) == len(expected) + 1


@settings(max_examples=30)
@given(entries=ENTRIES, data=st.data())
def test_a_changed_byte_in_a_whole_line_of_an_earlier_cache_is_noticed(entries, data):
    with folder_of(entries, is_earlier=True) as path:
        before = path.read_bytes()
        content = bytearray(before)
        place = data.draw(st.integers(0, len(content) - 2))  # without its end the last line is torn, and left out
        content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
        path.write_bytes(content)
        expected = {key(asked): reply for asked, reply in entries}
        try:
            json_is_the_same = list(map(json.loads, content.splitlines())) == list(map(json.loads, before.splitlines()))
        except ValueError:
            json_is_the_same = False
        if json_is_the_same:  # a blank that became another, a letter of an escape that became a capital
            assert held(path, [asked for asked, _ in entries]) == [expected[key(asked)] for asked, _ in entries]
            return
        with pytest.raises(BrokenStoreError, match=r"cache\.jsonl, line \d: must hold a request, its reply"):
            Store(path)
        assert path.read_bytes() == content
        assert rows(path.with_suffix(".sqlite3")) == []


SOME = [({"number": number}, Reply(text=str(number) * (40 * number))) for number in range(60)]  # some fill a page


@pytest.fixture(scope="module")
def sound():
    """The bytes of a database of 60 answers."""
    with folder_of(SOME) as path:
        return path.read_bytes()


@settings(max_examples=200)
@given(data=st.data())
def test_a_changed_bit_is_noticed_or_changes_no_answer(sound, data):
    content = bytearray(sound)
    place = data.draw(st.integers(0, 99) | st.integers(0, len(content) - 1))  # the header is 100 bytes long
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.sqlite3"
        path.write_bytes(content)
        message = None
        try:
            assert held(path, [asked for asked, _ in SOME]) == [reply for _, reply in SOME]
        except (BrokenStoreError, OSError) as error:
            message = str(error)
        assert message is None or (message.startswith(str(path)) and len(message.splitlines()) == 1)


@settings(max_examples=30)
@given(data=st.data())
def test_a_database_that_is_cut_is_refused(sound, data):
    # A file of 0 bytes is a new database, and SQLite counts 1 byte as none.
    size = data.draw(st.integers(2, len(sound) - 1) | st.integers(1, len(sound) // 4096 - 1).map(lambda n: 4096 * n))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.sqlite3"
        path.write_bytes(sound[:size])
        with pytest.raises(BrokenStoreError, match=r"^\S+cache\.sqlite3"):
            Store(path)
        assert path.read_bytes() == sound[:size]


def test_a_row_that_is_gone_is_noticed(tmp_path):
    """The page of the table counts one row less: the others are whole, and their numbers have no gap."""
    path = tmp_path / "cache.sqlite3"
    with closing(Store(path)) as store:
        for number in range(3):
            store.add({"a": number}, Reply(text="b"))
    content = bytearray(path.read_bytes())
    assert content[4096 + 3 : 4096 + 5] == b"\0\3"  # in the header of the second page
    content[4096 + 4] -= 1
    path.write_bytes(content)
    assert len(rows(path)) == 2
    with pytest.raises(BrokenStoreError, match="must be an undamaged database of answers"):
        Store(path)


def test_a_file_of_another_program_is_refused_and_left_as_it_is(ask, tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as database:
        database.execute("CREATE TABLE answers (id INTEGER PRIMARY KEY)")
    (tmp_path / "text.sqlite3").write_text("A text, longer than the header of a database. " * 9)
    (tmp_path / "letter").write_text("Dear Anna,\n")
    (tmp_path / "word").write_text("Dear")
    with closing(Store(tmp_path / "answers.sqlite3")) as store:
        store.add({"a": 1}, Reply(text="\n"))
    (tmp_path / "answers.sqlite3").rename(tmp_path / "answers.db")
    contents = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    messages = {
        "other.sqlite3": "other.sqlite3 must be a database of answers; it is another program's.",
        "text.sqlite3": "text.sqlite3 must be an undamaged database of answers; file is not a database.",
        "answers.db": "answers.db must have a name that ends in .sqlite3: it is a database. Rename it.",
        "word": "word, line 1: must hold a request, its reply and the hashes of both.",
        "letter": "letter, line 1: must hold a request, its reply and the hashes of both.",
    }
    with serving([answer(RIGHT)]) as server:
        for name, message in messages.items():
            with pytest.raises(SystemExit) as stop:
                ask(server.url, "--cache", str(tmp_path / name))
            assert stop.value.code == 2
            error = capsys.readouterr().err
            assert message in error
            assert len(error.splitlines()) == 1
        assert server.asked == []
    assert {path: path.read_bytes() for path in contents} == contents


@given(asked=REQUESTS)
def test_the_key_is_of_the_content_not_of_its_order(asked):
    assert key(asked) == key(dict(reversed(asked.items())))
    assert key(asked) != key({**asked, "more": 0})


def test_all_that_an_answer_depends_on_is_in_its_key():
    def asked(question="q", attempt=1, **changes):
        return key(solutions.request(Settings(**changes), question, attempt))

    same = asked()
    assert asked(concurrency=2, retries=1, timeout=1.0, max_wait=1.0, attempts=9) == same
    assert asked(base_url="https://me:word@api.openai.com/v1/") == same
    assert asked(omit=("cache_prompt",)) == same
    others = [
        asked(question="r"),
        asked(attempt=2),
        asked(attempt=3),
        asked(model="other"),
        asked(seed=1),
        asked(max_tokens=1),
        asked(base_url="http://localhost/v1"),
        asked(rename=("seed=random_seed",)),
        asked(omit=("seed",)),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_a_second_writer_is_refused(ask, tmp_path, capsys):
    path = tmp_path / "cache.sqlite3"
    with serving([answer(RIGHT)]) as server:
        with closing(Store(path)), pytest.raises(SystemExit) as stop:
            ask(server.url, "--cache", str(path))
        assert stop.value.code == 2
        assert "cache.sqlite3 must have one writer; another process has it open." in capsys.readouterr().err
        assert server.asked == []
        assert ask(server.url, "--cache", str(path)).status == 0


def test_a_second_process_is_refused_before_and_after_the_first_answer(tmp_path):
    path = tmp_path / "cache.sqlite3"
    code = f"from pathlib import Path\nfrom experiments.teacher.store import Store\nStore(Path({str(path)!r}))\n"
    with closing(Store(path)) as store:
        for number in range(2):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
            assert "BusyError: " in done.stderr
            store.add({"a": number}, Reply())


def test_a_full_disk_leaves_whole_answers(tmp_path):
    path = tmp_path / "cache.sqlite3"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Store(path)) as store:
        store.add({"a": 1}, Reply(text="b"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, limit[1]))
        try:
            with pytest.raises(OSError, match=r"cache\.sqlite3: "):
                store.add({"a": 2}, Reply(text="b" * 9999))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert store.reply({"a": 2}) is None
        store.add({"a": 3}, Reply(text="c"))
    assert [row["request"] for row in rows(path)] == [{"a": 1}, {"a": 3}]
    assert held(path, [{"a": 1}, {"a": 2}, {"a": 3}]) == [Reply(text="b"), None, Reply(text="c")]


def test_an_answer_is_in_the_one_file_when_it_is_used(tmp_path):
    """Whenever it is copied, no other file is needed beside it."""
    path, copy = tmp_path / "cache.sqlite3", tmp_path / "copy.sqlite3"
    with closing(Store(path)) as store:
        assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)
        for number in range(3):
            store.add({"a": number}, Reply(text="b"))
            copy.write_bytes(path.read_bytes())
            assert [row["request"]["a"] for row in rows(copy)] == list(range(number + 1))


def test_what_is_added_before_a_kill_is_held(tmp_path):
    """A writer that says each number once its answer is kept, killed at three moments."""
    path = tmp_path / "cache.sqlite3"
    code = (
        "import sys\nfrom pathlib import Path\nfrom experiments.teacher.replies import Reply\n"
        "from experiments.teacher.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for number in range(len(store), 10**6):\n"
        "    store.add({'a': number}, Reply(text='b' * 3000))\n"
        "    print(number, flush=True)\n"
    )
    for seconds in (0.05, 0.11, 0.17):
        with subprocess.Popen(
            [sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            first = int(writer.stdout.readline())
            time.sleep(seconds)
            writer.kill()
            said = [first, *map(int, writer.stdout.read().split())]
        with closing(Store(path)) as store:
            assert said[-1] < len(store) <= said[-1] + 2  # the last may have been kept and not said


def test_a_torn_line_is_reported(ask):
    with serving([answer(WRONG), answer(RIGHT)]) as server:
        run = ask(server.url)
        path = earlier_cache(run.out / "teacher-cache.jsonl", [(row["request"], row["reply"]) for row in run.cached])
        (run.out / "teacher-cache.sqlite3").unlink()
        path.write_bytes(path.read_bytes()[:-10])
        again = ask(server.url)
        assert len(server.asked) == 3  # the second answer only
    assert "its 1 answers are copied" in again.errors
    assert re.search(r"a torn last line of \d+ bytes, left by a killed run, is left out", again.errors)
    assert again.written() == run.written()


# Runs that are ended from outside -------------------------------------------------------------------------------------


@contextmanager
def process(folder, url, concurrency):
    code = (
        "import sys\nfrom console.command import run\n"
        "from experiments.commands.teacher import main\nsys.exit(run(main))"
    )
    arguments = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--base-url", url]
    command = [sys.executable, "-c", code, *arguments, "--concurrency", str(concurrency)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_pays_again_for_what_was_in_flight_only(tmp_path, number):
    """Both workers hang when seven have been answered: they have come that far only because all seven were kept."""
    data_folder(tmp_path / "data", 20)

    with serving(lambda asked: answer(RIGHT) if len(server.asked) <= 7 else hang(30)) as server:
        with process(tmp_path, server.url, 2) as started:
            wait_for(lambda: len(server.asked) == 9)
            start = time.monotonic()
            started.send_signal(number)
            out, error = started.communicate(timeout=20)
            assert time.monotonic() - start < 5
        if number == signal.SIGINT:
            assert started.returncode == 130
            assert error.endswith("Interrupted.\n")
            assert "Traceback" not in error
        assert out == ""
        cached = rows(tmp_path / "out" / "teacher-cache.sqlite3")
        assert len(cached) == 7
        assert not (tmp_path / "out" / "train.jsonl").exists()
        server.script = [answer(RIGHT)]
        with process(tmp_path, server.url, 2) as started:
            _, error = started.communicate(timeout=60)
            assert started.returncode == 0, error
        assert len(server.asked) == 20 + 2
    assert rows(tmp_path / "out" / "teacher-cache.sqlite3")[:7] == cached
    assert len((tmp_path / "out" / "train.jsonl").read_text().splitlines()) == 20


def test_a_run_killed_at_any_moment_pays_again_for_what_was_in_flight_at_most(tmp_path):
    data_folder(tmp_path / "data", 60)
    with serving([hang(0.003, answer(RIGHT))]) as server:
        for seen in (7, 31):
            with process(tmp_path, server.url, 4) as started:
                wait_for(lambda seen=seen: len(server.asked) >= seen)
                started.kill()
                started.communicate(timeout=20)
        with process(tmp_path, server.url, 4) as started:
            _, error = started.communicate(timeout=60)
            assert started.returncode == 0, error
        assert 60 <= len(server.asked) <= 60 + 2 * 4
    assert len((tmp_path / "out" / "train.jsonl").read_text().splitlines()) == 60


# A real model ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_url():
    xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    if not os.environ.get("SMOLLM2_GGUF"):
        pytest.skip("SMOLLM2_GGUF names no file")
    params = xllamacpp.CommonParams()
    params.model.path = os.environ["SMOLLM2_GGUF"]
    params.n_parallel = 2
    params.n_ctx = 2 * 1024  # is divided by n_parallel
    params.cpuparams.n_threads = 1  # more than there are free cores wait for each other
    params.port = 0
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


@pytest.mark.reference
def test_a_real_endpoint(ask, real_url, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    problems = {f"Tom has {a} apples and buys 1 more. How many apples has Tom?": a + 1 for a in (1, 2, 5, 8)}
    records = [{"question": question, "answer": f"#### {gold}"} for question, gold in problems.items()]
    (data / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    url = real_url
    options = ("--concurrency", "2", "--max-tokens", "100", "--timeout", "120")
    run = ask(url, *options)
    solved, unsolved = run.written(), run.written("unsolved.jsonl")
    texts = [row["reply"]["text"] for row in run.cached]
    num_answers = len(texts)
    assert 4 <= num_answers <= 12
    assert run.row("requests sent") == [str(num_answers)]
    assert sum(int(run.row(verdict)[0]) for verdict in get_args(solutions.Verdict)) == num_answers
    assert run.row("answers without a token count") == ["0", "0", "0"]
    assert int(run.row("prompt tokens")[0]) > 100 * num_answers
    for record in solved:
        assert problems[record["question"]] == Fraction(gsm8k.final_answer(record["answer"]))
        assert record["answer"] in map(str.strip, texts)
    assert sorted(record["question"] for record in solved + unsolved) == sorted(problems)
    again = ask(url, *options)
    assert again.row("requests sent") == ["0"]
    assert again.written() == solved
    short = ask(url, "--max-tokens", "3", "--attempts", "1", "--timeout", "120")
    assert short.row("cut off") == ["4", "0", "4"]
    assert short.status == 1
    print(run.shown)  # shown with -s: what this model can do


@pytest.mark.reference
def test_a_real_endpoint_repeats_itself_where_the_hint_is_sent(ask, real_url, tmp_path):
    """One question after the other, three times: the second time llama.cpp's cache holds the beginning of each."""
    data = tmp_path / "data"
    data.mkdir()
    questions = [
        "A farm has 12 cows and each gives 7 litres of milk a day. How many litres is that in a week?",
        "Tom has 5 apples and buys 1 more. How many apples has Tom?",
        "A train goes 60 miles in an hour. How far does it go in 3 hours?",
    ]
    records = [{"question": question, "answer": "#### 1"} for question in questions]
    (data / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def texts(turn, *options):
        path = tmp_path / f"{turn}{''.join(options)}.sqlite3"
        ask(real_url, "--attempts", "1", "--max-tokens", "100", "--timeout", "120", "--cache", str(path), *options)
        return [row["reply"]["text"] for row in rows(path)]

    first, *others = [texts(turn) for turn in range(3)]
    assert others == [first, first]
    assert len(first) == 3
    # Without it they differ, in xllamacpp 2026.10.11549. Where they no longer do, the hint has had its day.
    without = [texts(turn, "--omit", "cache_prompt") for turn in range(3)]
    assert without != [first, first, first]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"concurrency": 0}, "--concurrency must be a whole number of at least 1 and at most 1000; got 0"),
        ({"attempts": 0}, "--attempts must be"),
        ({"max_tokens": "x"}, "--max-tokens must be"),
        ({"retries": -1}, "--retries must be"),
        ({"timeout": float("nan")}, "--timeout must be a positive number"),
        ({"concurrency": 5000}, "--concurrency must be a whole number of at least 1 and at most 1000; got 5000"),
        ({"concurrency": True}, "--concurrency must be .*; got True"),
        ({"attempts": "3"}, "--attempts must be a whole number of at least 1; got '3'"),
        ({"seed": -1}, "--seed must be a whole number of at least 0; got -1"),
        ({"seed": 1.5}, r"--seed must be .*; got 1\.5"),
        ({"timeout": True}, "--timeout must be a positive number; got True"),
        ({"max_wait": "9"}, "--max-wait must be a positive number; got '9'"),
        ({"max_wait": float("inf")}, "--max-wait must be"),
        ({"omit": ("foo",)}, "--omit must name one of temperature"),
        ({"rename": ("max_tokens=cache_prompt",)}, "--rename must give max_tokens a name that no other parameter has"),
    ],
)
def test_settings_from_python_are_checked_as_the_options_are(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


def test_settings_from_python_may_be_whole_where_options_are_fractions():
    assert Settings(timeout=1, max_wait=2.5, concurrency=1000, seed=0).timeout == 1


@pytest.mark.parametrize(
    ("url", "is_openai"),
    [
        ("https://API.OpenAI.com/v1/", True),
        ("https://api.openai.com:443/v1", True),
        ("https://me:secret@api.openai.com/v1", True),
        ("https://api.openai.com.example.org/v1", False),
        ("https://example.org/api.openai.com/v1", False),
    ],
)
def test_openai_is_known_by_its_host_however_it_is_written(url, is_openai):
    assert Settings(base_url=url).is_openai == is_openai
    assert Settings().is_openai


def test_a_gold_answer_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="`gold` must be a number; got 'abc'"):
        solutions.verdict(Reply(text="#### 4", finish_reason="stop"), "abc")
