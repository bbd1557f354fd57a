"""A run on a random folder of Qwen3, with a chat template that thinks as Qwen3's does."""

import json
import math
from dataclasses import replace

import pytest
from safetensors import safe_open

import experiments.__main__ as dispatcher
from experiments import records
from experiments.data import tokens
from experiments.model import random_model

ARCHITECTURE = replace(
    random_model.ARCHITECTURE, width=32, num_layers=1, head_dim=16, mlp_width=32, has_qk_norm=True, is_tied=False
)
# The features of Qwen3's template: messages from the last to the first, a namespace, methods of texts, tools, thoughts
# in front of the last answer alone, and a generation prompt without them.
TEMPLATE = """
{%- if tools %}{{ tools[0] | tojson }}{% endif %}
{%- set last = namespace(question=0, is_open=true) %}
{%- for message in messages[::-1] %}
    {%- if last.is_open and message.role == 'user' and not message.content.startswith('<tool>') %}
        {%- set last.question = messages | length - 1 - loop.index0 %}
        {%- set last.is_open = false %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set text = message.content if message.content is string else '' %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.index0 > last.question %}
        {%- set thought = message.reasoning_content or text.split('</think>')[0] if '</think>' in text else '' %}
        {{- '<think>\\n' + thought.split('<think>')[-1].strip('\\n') + '\\n</think>\\n\\n' }}
        {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- text + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""
EMPTY_THOUGHT = "<|im_start|>assistant\n<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "qwen3"
    random_model.write(folder, architecture=ARCHITECTURE)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATE}))
    return folder


def test_an_answer_stands_behind_an_empty_thought(folder):
    """In training and in decoding alike: the conversation has the thought, so the prompt has it too."""
    codec = tokens.load(folder)
    text = codec.encoded("Why?", "So.\n#### 5", is_chat=True)
    assert codec.tokenizer.decode(text.prompt, skip_special_tokens=False).endswith(EMPTY_THOUGHT)
    assert codec.prompt("Why?", is_chat=True) == text.prompt
    assert codec.tokenizer.decode(text.completion, skip_special_tokens=False) == "So.\n#### 5<|im_end|>"


def test_an_answer_with_a_thought_is_refused(folder):
    with pytest.raises(ValueError, match="the chat template must repeat the answer as it is"):
        tokens.load(folder).encoded("Why?", "<think>\nHm.\n</think>\n\nSo.", is_chat=True)


def test_a_run_on_qwen3(folder, tmp_path):
    """Random logits are small: at the start every token costs the logarithm of their number."""
    call = ("run", "--preset", "tiny", "--arm", "sequential", "--model", folder, "--updates", "1", "--out", tmp_path)
    settings = ("num_problems=16", "num_pairs=2", "max_tokens=600", "measures.probe_pairs=2",
                "measures.accuracy_every=0", "measures.alignment_every=0", "checkpoint_every=1", "keep=1")  # fmt: skip
    assert dispatcher.main([*map(str, call), *(word for setting in settings for word in ("--set", setting))]) == 0
    (path,) = tmp_path.rglob("records.jsonl")
    row = [row for row in records.read(path) if isinstance(row, records.UpdateRow)][-1]
    assert row.loss_plus == pytest.approx(math.log(ARCHITECTURE.vocabulary), rel=0.02)
    (file,) = (path.parent / records.CHECKPOINTS).rglob("*.safetensors")
    with safe_open(file, framework="np") as tensors:
        assert (tensors.get_tensor(".params['layers']['query_norm']") != 1).any()  # it is trained
