"""Solutions asked of a teacher, each checked against the gold answer.

Every answer is kept, with those that are wrong, since all were paid for. Reasoning around an answer is kept with it,
and is neither checked nor part of a solution. Nothing here knows how a request travels, reads the environment, prints,
or knows what the solutions are for.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from experiments.data import answers, gsm8k
from experiments.data.gsm8k import Problem
from experiments.teacher.answer_store import Cache
from experiments.teacher.endpoint import OPENAI_URL, Endpoint, FailedError, Settings
from experiments.teacher.replies import Reply, stored

__all__ = [
    "OPENAI_URL",
    "VERDICTS",
    "Attempt",
    "Outcome",
    "Reply",
    "Settings",
    "TeacherError",
    "Verdict",
    "judged",
    "request",
    "solve",
]

Verdict = Literal["right", "wrong", "no final line", "cut off", "no text"]
"""Of an answer. The last three cannot be used: no line `#### N` at the end, stopped by a limit or a filter, empty.

An answer that a limit stopped before it began is cut off, not empty."""

VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "no final line", "cut off", "no text")

# The example is this project's own. Its last turn is what gsm8k.final_answer and a reader of annotations accept.
_PROMPT = (
    {
        "role": "system",
        "content": "Solve the problem step by step, in short sentences. Write one calculation per line, and behind its "
        "equals sign the calculation once more between << and >>, as in 48/2 = <<48/2=24>>24. Between << and >> stand "
        "only numbers, + - * / ( ) and one =, without units. The last line is #### and the final answer, one number.",
    },
    {
        "role": "user",
        "content": "A shop has 6 boxes of 12 pencils. It sells 15 pencils for $2 each and the others for $1 each. How "
        "many dollars does it earn?",
    },
    {
        "role": "assistant",
        "content": "The shop has 6*12 = <<6*12=72>>72 pencils.\nThe first 15 pencils earn 15*2 = $<<15*2=30>>30.\n"
        "There are 72-15 = <<72-15=57>>57 other pencils.\nThe others earn 57*1 = $<<57*1=57>>57.\n"
        "Together that is 30+57 = $<<30+57=87>>87.\n#### 87",
    },
)
_AGAIN_TEMPERATURE = 0.7  # at 0 a wrong answer would only come back


@dataclass(frozen=True)
class Attempt:
    """One answer to a problem.

    Attributes:
        number: From 1.
        reply: The answer.
        verdict: What it is worth.
        num_sent: Requests sent for it in this run; 0 where it comes from the cache.
    """

    number: int
    reply: Reply
    verdict: Verdict
    num_sent: int


@dataclass(frozen=True)
class Outcome:
    """What became of a problem.

    Attributes:
        problem: The problem.
        attempts: The answers, in turn; only the last can be right.
        failure: Why no answer came, for a problem that was given up before its attempts were used up; else None.
        is_final: Whether every other problem would fail in the same way.
        num_unanswered: Requests sent in this run to which no answer came before it was given up.
    """

    problem: Problem
    attempts: tuple[Attempt, ...]
    failure: str | None = None
    is_final: bool = False
    num_unanswered: int = 0

    @property
    def solution(self) -> str | None:
        """The right answer; None where there was none."""
        last = self.attempts[-1] if self.attempts else None
        return last.reply.answer if last and last.verdict == "right" else None

    @property
    def is_spent(self) -> bool:
        """Whether the limit of tokens was used up before the last answer began."""
        return bool(self.attempts) and self.attempts[-1].reply.is_spent

    @property
    def num_sent(self) -> int:
        """Requests sent in this run."""
        return sum(attempt.num_sent for attempt in self.attempts) + self.num_unanswered


class TeacherError(RuntimeError):
    """The run cannot go on; the message says why, and what to do."""


def request(settings: Settings, question: str, attempt: int) -> dict[str, object]:
    """What is asked: the body that is sent, the endpoint without credentials, the attempt's number."""
    parameters = {
        "temperature": 0.0 if attempt == 1 else _AGAIN_TEMPERATURE,
        "seed": settings.seed + attempt - 1,
        "max_tokens": settings.max_tokens,
    }
    return {
        "base_url": settings.endpoint,
        "attempt": attempt,
        "model": settings.model,
        "messages": [*_PROMPT, {"role": "user", "content": question}],
        **{sent: parameters[name] for name, sent in settings.sent_names.items()},
    }


def judged(reply: Reply, gold: str) -> Verdict:
    """What an answer is worth: it is right if it has ended, its last line is `#### N`, and every reading of it is gold.

    Raises:
        ValueError: If `gold` is no number.
    """
    right = answers.number(gold)
    if right is None:
        raise ValueError(f"`gold` must be a number; got {gold!r}.")
    text = reply.answer
    if reply.is_spent:
        return "cut off"
    if not text or not _is_unicode(text):
        return "no text"
    if reply.ending != "stop":
        return "cut off"
    try:
        last = answers.number(gsm8k.final_answer(text))
    except ValueError:
        return "no final line"
    return "right" if answers.extract(text).value == last == right else "wrong"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)  # halves of pairs, which JSON can spell


async def solve(
    problems: Iterable[Problem],
    settings: Settings,
    cache: Cache,
    *,
    on_outcome: Callable[[Outcome], None],
    api_key: str | None = None,
) -> None:
    """Asks for solutions until each is right or its attempts are used up; what the cache holds is not asked again.

    A problem whose answer did not begin within the limit of tokens is not asked again at the same limit.

    Args:
        problems: What to solve.
        settings: Whom to ask, and how patiently.
        cache: Where every answer is before it is used.
        on_outcome: Called with each problem's outcome, in the order in which they are ready.
        api_key: The endpoint's key; a local endpoint needs none. It goes nowhere but into the header of the requests.

    Raises:
        TeacherError: If the endpoint refuses for good (key, quota, model, address, a parameter), or so many problems in
            succession got no answer that it must be down, or the limit of tokens too low. What was in flight has been
            waited for, and is in the cache.
        ModuleNotFoundError: If `openai` is not installed, and something must be asked.
        OSError: If the cache cannot be written.
    """
    endpoint = Endpoint(settings, api_key)
    queue = iter(problems)
    stopped: TeacherError | None = None
    num_in_a_row, most_in_a_row = 0, max(3, settings.concurrency)

    async def work() -> None:
        nonlocal stopped, num_in_a_row
        for problem in queue:  # shared by the workers: each problem goes to one of them
            outcome = await _solved(problem, settings, cache, endpoint)
            on_outcome(outcome)
            reason = outcome.failure
            if reason is None and outcome.is_spent and outcome.num_sent:
                reason = (
                    f"All {settings.max_tokens} tokens were used before an answer began. Give a higher --max-tokens."
                )
            if reason is not None:
                num_in_a_row += 1
            elif outcome.num_sent:
                num_in_a_row = 0
            if outcome.is_final and outcome.failure is not None:
                stopped = stopped or TeacherError(outcome.failure)
            elif num_in_a_row >= most_in_a_row:
                stopped = stopped or TeacherError(
                    f"{settings.endpoint} gave no answer to {num_in_a_row} problems in a row; the last time: {reason}"
                )
            if stopped is not None:
                return

    try:
        await asyncio.gather(*(work() for _ in range(settings.concurrency)))
    finally:
        await endpoint.close()
    if stopped is not None:
        raise stopped


async def _solved(problem: Problem, settings: Settings, cache: Cache, endpoint: Endpoint) -> Outcome:
    attempts: list[Attempt] = []
    for number in range(1, settings.attempts + 1):
        asked = request(settings, problem.question, number)
        kept, num_sent = cache.reply(asked), 0
        if kept is None and attempts and attempts[-1].reply.is_spent:
            break
        if kept is None:
            try:
                reply, num_sent = await endpoint.ask(asked)
            except FailedError as error:
                return Outcome(problem, tuple(attempts), str(error), error.ends == "run", error.num_sent)
            cache.add(asked, asdict(reply))
        else:
            reply = stored(kept)
        attempts.append(Attempt(number, reply, judged(reply, problem.gold), num_sent))
        if attempts[-1].verdict == "right":
            break
    return Outcome(problem, tuple(attempts))
