"""Solutions from a teacher, each checked against the gold answer.

Every answer is kept, the wrong ones too, since all were paid for. Reasoning around an answer is kept with it; it is
neither checked nor part of a solution. Nothing here knows how a request travels, reads the environment, or prints.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from experiments.data import answers, gsm8k
from experiments.data.gsm8k import Problem
from experiments.teacher.endpoint import Endpoint
from experiments.teacher.refusals import RequestError
from experiments.teacher.replies import Reply
from experiments.teacher.settings import Settings
from experiments.teacher.store import Store

__all__ = ["Attempt", "Outcome", "Run", "State", "Verdict", "request", "solve", "verdict"]

Verdict = Literal["right", "wrong", "no final line", "cut off", "no text"]
"""On an answer. The last three cannot be used: no line `#### N` at the end, stopped by a limit or a filter, empty.

An answer that a limit stopped before it began is cut off, not empty."""
State = Literal["solved", "never solved", "given up"]
"""Of a problem: the last answer is right, none of all attempts' answers is, or an attempt got no answer."""

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
_FEWEST_IN_A_ROW = 3  # problems without an answer, by which an endpoint counts as down


class Attempt(NamedTuple):
    """One answer to a problem.

    Attributes:
        reply: The answer.
        verdict: Whether it is right, and if not, why.
        num_sent: Requests sent for it in this run; 0 where it comes from the cache.
    """

    reply: Reply
    verdict: Verdict
    num_sent: int


@dataclass(frozen=True)
class Outcome:
    """The end of the work on a problem.

    Attributes:
        problem: The problem.
        attempts: The answers, in turn; only the last can be right.
        error: Why no answer came, for a problem that was given up before its attempts were used up; else None.
    """

    problem: Problem
    attempts: Sequence[Attempt]
    error: RequestError | None = None

    @property
    def state(self) -> State:
        """The state at the end."""
        if self.error:
            return "given up"
        return "solved" if self.attempts[-1].verdict == "right" else "never solved"

    @property
    def num_sent(self) -> int:
        """Requests sent in this run."""
        return sum(attempt.num_sent for attempt in self.attempts) + (self.error.num_sent if self.error else 0)

    @property
    def record(self) -> dict[str, object]:
        """The line of a file: a problem with its solution, or an unsolved one with the verdicts on its answers."""
        question = {"id": self.problem.id, "question": self.problem.question}
        if self.state == "solved":
            reply = self.attempts[-1].reply
            return {**question, "answer": reply.answer, "teacher": reply.model, "attempt": len(self.attempts)}
        verdicts = [attempt.verdict for attempt in self.attempts]
        return {**question, "gold": self.problem.gold, "verdicts": verdicts, "given_up": self.error and str(self.error)}


class Run(NamedTuple):
    """The outcomes in the order of the problems, and why the run ended before the last problem, or None."""

    outcomes: list[Outcome]
    failure: str | None


def request(settings: Settings, question: str, attempt: int) -> dict[str, object]:
    """The request of an attempt, and its key's content: the body, the endpoint without credentials, the attempt."""
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
        **{there: parameters[here] for here, there in settings.sent_names.items()},
    }


def verdict(reply: Reply, gold: str) -> Verdict:
    """The verdict on an answer: right if it has ended, its last line is `#### N`, and every reading of it is gold.

    Raises:
        ValueError: If `gold` is no number.
    """
    right = answers.number(gold)
    if right is None:
        raise ValueError(f"`gold` must be a number; got {gold!r}.")
    text = reply.answer
    if reply.is_spent:
        return "cut off"
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):  # halves of characters: JSON can spell them
        return "no text"
    if reply.ending != "stop":
        return "cut off"
    try:
        last = answers.number(gsm8k.final_answer(text))
    except ValueError:
        return "no final line"
    return "right" if answers.extract(text).value == last == right else "wrong"


async def solve(
    problems: Sequence[Problem],
    settings: Settings,
    store: Store,
    *,
    on_outcome: Callable[[Outcome], None],
    api_key: str | None,
) -> Run:
    """Asks for solutions until each is right or its attempts are used up; answers in the store are not asked for again.

    A problem whose answer did not begin within the limit of tokens is not asked again at the same limit. The run ends
    before the last problem if the endpoint refuses for good (key, quota, model, address, a parameter), or if so many
    problems in succession got no answer that it must be down, or the limit of tokens too low. The answers in flight are
    then waited for, and are in the store.

    Args:
        problems: The problems, each with an id of its own.
        settings: The teacher, and the limits of a request.
        store: Where every answer is kept before it is used.
        on_outcome: Called with each problem's outcome, in the order in which they are ready.
        api_key: The endpoint's key; a local endpoint needs none. It goes nowhere but into the header of the requests.

    Raises:
        OSError: If the store cannot be written.
    """
    queue, outcomes = iter(problems), dict[str, Outcome]()
    failure: str | None = None
    num_in_a_row, most_in_a_row = 0, max(_FEWEST_IN_A_ROW, settings.concurrency)

    async def work() -> None:
        nonlocal failure, num_in_a_row
        for problem in queue:  # shared by the workers: each problem goes to one of them
            outcome = outcomes[problem.id] = await _outcome(problem, settings, store, endpoint)
            on_outcome(outcome)
            reason = outcome.error and str(outcome.error)
            if not reason and outcome.num_sent and outcome.attempts[-1].reply.is_spent:
                spent = f"All {settings.max_tokens} tokens were used before an answer began."
                reason = f"{spent} Give a higher --max-tokens."
            if reason or outcome.num_sent:  # an answer from the store is no sign of life
                num_in_a_row = num_in_a_row + 1 if reason else 0
            if outcome.error and outcome.error.ends == "run":
                failure = failure or reason
            elif num_in_a_row >= most_in_a_row:
                times = f"{num_in_a_row} problems in a row; the last time: {reason}"
                failure = failure or f"{settings.endpoint} gave no answer to {times}"
            if failure:
                return

    async with Endpoint(settings, api_key) as endpoint:
        await asyncio.gather(*(work() for _ in range(settings.concurrency)))
    return Run([outcomes[problem.id] for problem in problems if problem.id in outcomes], failure)


async def _outcome(problem: Problem, settings: Settings, store: Store, endpoint: Endpoint) -> Outcome:
    attempts: list[Attempt] = []
    for number in range(1, settings.attempts + 1):
        body = request(settings, problem.question, number)
        reply, num_sent = store.reply(body), 0
        if reply is None:
            if attempts and attempts[-1].reply.is_spent:
                break
            try:
                reply, num_sent = await endpoint.ask(body)
            except RequestError as error:
                return Outcome(problem, attempts, error)
            store.add(body, reply)
        attempts.append(Attempt(reply, verdict(reply, problem.gold), num_sent))
        if attempts[-1].verdict == "right":
            break
    return Outcome(problem, attempts)
