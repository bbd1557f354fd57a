"""A local HTTP server that answers as it is told to, badly above all, and remembers what it was asked."""

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = [
    "REFUSALS",
    "Asked",
    "Behaviour",
    "Server",
    "answer",
    "body",
    "hang",
    "message_answer",
    "raw",
    "refusing",
    "reset",
    "serving",
    "status",
    "trickle",
    "truncated",
]


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        payload: The JSON that was sent.
        headers: The headers, their names in lower case.
        path: The path.
        time: When it came, in seconds of the monotonic clock.
    """

    payload: dict
    headers: dict[str, str]
    path: str
    time: float

    @property
    def question(self) -> str:
        return self.payload["messages"][-1]["content"]


Behaviour = Callable[["_Handler"], None]


@dataclass
class Server:
    """What a test sees.

    Attributes:
        url: The base URL.
        script: What is done to the requests in turn, the last of them for ever; or a choice by request.
        asked: The requests so far.
        most_at_once: The largest number of requests that were open at the same time.
    """

    url: str = ""
    script: list[Behaviour] | Callable[[Asked], Behaviour] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    num_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_closing: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the client to acknowledge its headers
    told: Server

    def do_POST(self):
        told = self.told
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(payload, headers, self.path, time.monotonic())
        with told.lock:
            told.asked.append(asked)
            told.num_open += 1
            told.most_at_once = max(told.most_at_once, told.num_open)
            script = told.script
            behaviour = script(asked) if callable(script) else script[min(len(told.asked), len(script)) - 1]
        try:
            behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has had enough: that is what some tests are about
        finally:
            with told.lock:
                told.num_open -= 1

    do_GET = do_POST  # noqa: N815  # a client that follows a redirect may come so; it would be counted

    def log_message(self, format, *args):  # noqa: A002
        pass

    def send(self, code, content, headers):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def body(text, finish_reason="stop", usage=(100, 20), **changes):
    """The JSON of a completion; `changes` replace or, where None, remove entries of its top level."""
    content = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-model",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason},
        ],
        "usage": usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
    }
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


def raw(content, code=200, content_type="application/json", **headers):
    """These very bytes; underscores in the names of headers are dashes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(code, content, {"Content-Type": content_type, **names})


def answer(*arguments, **options):
    """A completion, as `body` makes it."""
    return raw(json.dumps(body(*arguments, **options)).encode())


def status(code, message="it broke", error_code=None, **headers):
    """An error as OpenAI words it."""
    error = {"error": {"message": message, "type": error_code, "param": None, "code": error_code}}
    return raw(json.dumps(error).encode(), code, **headers)


def message_answer(finish_reason="stop", usage=(100, 20), **fields):
    """A completion whose message has these very fields beside its role."""
    choice = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish_reason}
    return answer(None, usage=usage, choices=[choice])


def _openai(text, param, code):
    return 400, {"error": {"message": text, "type": "invalid_request_error", "param": param, "code": code}}


_FORBIDDEN = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}  # pydantic's words


def _mistral(name):
    """As api.mistral.ai has it in 2025 (partITech/php-mistral, issue 76): both `detail` and `message`."""
    detail = [{**_FORBIDDEN, "loc": ["body", name], "input": 0}]
    return 422, {"object": "Error", "detail": detail, "message": detail, "type": "invalid_request_error", "code": 3001}


def _gemini(name):
    """Behind Gemini's OpenAI-compatible address (Vali-98/ChatterUI, issue 227): a list of one error."""
    text = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": text}]}]
    return 400, [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT", "details": details}}]


# By parameter that is refused: the status and the body of the error. The words are those that the issues cited hold.
REFUSALS = {
    # GPT-5 and the o-series: griptape-ai/ComfyUI-Griptape, issue 312.
    "OpenAI, max_tokens": lambda name: _openai(
        f"Unsupported parameter: '{name}' is not supported with this model. Use 'max_completion_tokens' instead.",
        name,
        "unsupported_parameter",
    ),
    # gabrii/Cursor-Azure-GPT-5, issue 33.
    "OpenAI, temperature": lambda name: _openai(
        f"Unsupported value: '{name}' does not support 0 with this model. Only the default (1) value is supported.",
        name,
        "unsupported_value",
    ),
    # zed-industries/zed, issue 52000: `param` is null.
    "OpenAI, unknown": lambda name: _openai(f"Unrecognized request argument supplied: {name}", None, None),
    # vllm-project/semantic-router, issue 1901.
    "OpenAI, unknown, newer": lambda name: _openai(f"Unknown parameter: '{name}'.", name, "unknown_parameter"),
    "Mistral": _mistral,
    # mistralai/platform-docs-public, issue 7: JSON within the text of the message.
    "Mistral, 2024": lambda name: (
        422,
        {
            "object": "error",
            "message": json.dumps(
                {
                    "detail": [
                        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
                    ]
                }
            ),
            "type": "internal_error_proxy",
            "param": None,
            "code": "1000",
        },
    ),
    # langchain-ai/langchain-azure, issue 82: Mistral-Large-2411 on Azure AI, FastAPI's own shape.
    "Azure AI": lambda name: (
        422,
        {"detail": [{**_FORBIDDEN, "loc": ["body", name]}]},
    ),
    "Gemini": _gemini,
    # musistudio/llms, pull request 64.
    "Groq": lambda name: (
        400,
        {"error": {"message": f"property '{name}' is unsupported", "type": "invalid_request_error"}},
    ),
    # sipeed/picoclaw, issue 2939: claude-opus-4-7 behind Anthropic's OpenAI-compatible address.
    "Anthropic": lambda name: (
        400,
        {
            "error": {
                "code": "invalid_request_error",
                "message": f"{name} is deprecated for this model.",
                "type": "invalid_request_error",
            }
        },
    ),
    # BerriAI/litellm, issue 39829: OpenAI's models on Bedrock, behind a litellm proxy.
    "Bedrock": lambda name: (
        400,
        {
            "error": {
                "message": 'litellm.BadRequestError: BedrockException - {"message":"This model doesn\'t support the '
                f'{name} field. Remove {name} and try again."}}',
                "type": None,
                "param": None,
                "code": "400",
            }
        },
    ),
    # BerriAI/litellm, issue 6856, and kaiko-ai/eva, issue 895.
    "litellm": lambda name: (
        400,
        {
            "error": {
                "message": f"litellm.UnsupportedParamsError: anthropic does not support parameters: ['{name}'], for "
                "model=claude-3-7-sonnet-20250219. To drop these, set `litellm.drop_params=True`",
                "type": "None",
                "param": "None",
                "code": "400",
            }
        },
    ),
    # NVIDIA/garak, issue 748: a problem's details, as RFC 9457 has them.
    "NIM": lambda name: (
        422,
        {
            "type": "urn:inference-service:problem-details:unprocessable-entity",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": f"body -> {name}\n  Extra inputs are not permitted (type=extra_forbidden)",
        },
    ),
    # 1Panel-dev/MaxKB, issue 2912: Python's own spelling within the text of the message.
    "vLLM": lambda name: (
        400,
        {
            "object": "error",
            "message": str(
                [{"type": "extra_forbidden", "loc": ("body", name), "msg": "Extra inputs are not permitted"}]
            ),
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    # text-generation-inference 1.x, the error that vibrantlabsai/ragas, issue 264, cites: `error` is a text.
    "text-generation-inference": lambda name: (
        422,
        {"error": f"Input validation error: `{name}` must be strictly positive", "error_type": "validation"},
    ),
}


def refusing(dialect, *names, then):
    """A choice by request: a request with one of these parameters is refused in a dialect, another is answered."""

    def choose(asked):
        for name in names:
            if name in asked.payload:
                code, content = REFUSALS[dialect](name)
                return raw(json.dumps(content).encode(), code)
        return then

    return choose


def truncated(text):
    """A completion of which the second half never comes, though its length was announced."""

    def behave(handler):
        content = json.dumps(body(text)).encode()
        handler.send(200, content[: len(content) // 2], {"Content-Length": str(len(content))})
        handler.close_connection = True

    return behave


def reset(handler):
    """The connection is cut with a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def hang(seconds, then=None):
    """Nothing for a time, then the connection is closed, or what else is told."""

    def behave(handler):
        handler.told.is_closing.wait(seconds)
        if then is None:
            handler.close_connection = True
        else:
            then(handler)

    return behave


def trickle(text, pause):
    """A completion, one byte at a time: always something, never the end."""

    def behave(handler):
        content = json.dumps(body(text)).encode()
        handler.send(200, b"", {"Content-Length": str(len(content)), "Content-Type": "application/json"})
        for place in range(len(content)):
            handler.wfile.write(content[place : place + 1])
            if handler.told.is_closing.wait(pause):
                break
        handler.close_connection = True

    return behave


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """Says nothing of a connection that is gone: `reset` asks for it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(script: list[Behaviour] | Callable[[Asked], Behaviour] | None = None) -> Iterator[Server]:
    """The server, for as long as the block lasts."""
    told = Server(script=script or [])
    handler = type("Handler", (_Handler,), {"told": told})
    server = _HTTPServer(("127.0.0.1", 0), handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        told.is_closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
