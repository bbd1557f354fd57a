"""Chat templates, boundaries, stop tokens and batches, with a tokenizer of bytes and with templates as they occur."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from experiments import tiny, tokens

LLAMA = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = "
    "strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- date_string }}\n{% for message in messages %}{{- '<|h|>' + message['role'] + '<|/h|>' + "
    "message['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{- '<|h|>assistant<|/h|>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write(folder)
    return tokens.load(folder)


@pytest.fixture
def llama(tmp_path):
    """Two stop tokens, a tokenizer that adds a token to begin a text, a template that holds it already."""
    specials = ["<|begin|>", "<|end|>", "<|eot|>", "<|h|>", "<|/h|>"]
    words = {word: i for i, word in enumerate([*specials, *"abcdefghijklmnopqrstuvwxyz0123456789? "])}
    made = Tokenizer(models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.add_special_tokens([AddedToken(token, special=True) for token in specials])
    made.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    made.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>", "chat_template": LLAMA}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    return tmp_path


def test_a_text_begins_once_and_stops_at_either_token(llama):
    codec = tokens.load(llama)
    assert codec.stop_tokens == (1, 2)
    made = codec.encoded("why", "because", is_chat=True)
    assert made.prompt.count(0) == 1
    assert made.completion[-1] == 2  # a turn ends with <|eot|>, a text with <|end|>
    plain = codec.encoded("why ", "because", is_chat=False)
    assert plain.prompt[0] == 0
    assert plain.completion == codec.tokenizer.encode("because", add_special_tokens=False).ids


def test_a_template_knows_no_date(llama):
    assert "26 Jul 2024" in tokens.load(llama).chat("why")


def test_the_template_may_be_a_file_or_one_of_several(llama):
    config = json.loads((llama / "tokenizer_config.json").read_text())
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": LLAMA}]
    (llama / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": several}))
    expected = tokens.load(llama).chat("why")
    (llama / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "not this"}))
    (llama / "chat_template.jinja").write_text(LLAMA)
    assert tokens.load(llama).chat("why") == expected


def test_a_prompt_reads_as_the_template_has_it(codec):
    assert codec.chat("1+1?") == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    made = codec.encoded("1+1?", "2", is_chat=True)
    assert codec.tokenizer.decode(made.completion, skip_special_tokens=False) == "2<|im_end|>"


@settings(max_examples=60)
@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_the_boundary_never_merges(codec, prompt, completion):
    try:
        made = codec.encoded(prompt, completion, is_chat=False)
    except ValueError:
        return  # lone surrogates have no bytes
    assert codec.text(made.prompt) == prompt.replace("<|pad|>", "")
    assert codec.text(made.completion) == completion


def test_a_batch_masks_by_length(codec):
    texts = [tokens.Encoded([5, 6, 7], [3, 0]), tokens.Encoded([8], [9, 9, 9, 9])]
    made = tokens.batch(texts, [0.5, 2.0], multiple=4)
    assert made.tokens.tolist() == [[5, 6, 7, 3, 0, 0, 0, 0], [8, 9, 9, 9, 9, 0, 0, 0]]
    assert made.targets.tolist() == [[3, 0, 0, 0], [9, 9, 9, 9]]
    assert (made.first.tolist(), made.lengths.tolist(), made.weights.tolist()) == ([2, 0], [2, 4], [0.5, 2.0])
    assert np.array_equal(tokens.batch(texts, shape=(9, 5)).tokens[:, :8], made.tokens)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c, p: tokens.batch([]), "at least one"),
        (lambda c, p: tokens.batch([tokens.Encoded([1] * 9, [1])], shape=(8, 4)), "must fit the shape"),
        (lambda c, p: c.encoded("", "x", is_chat=False), "at least one token"),
        (lambda c, p: c.encoded("x", "", is_chat=False), "at least one token"),
        (lambda c, p: tokens.load(p), "tokenizer.json must exist"),
        (lambda c, p: tokens.TextCodec(c.tokenizer, None, {}, ()).chat("x"), "must have a chat template"),
        (
            lambda c, p: tokens.TextCodec(c.tokenizer, "{{ raise_exception('no system') }}", {}, ()).chat("x"),
            "no system",
        ),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "{{ messages.x.y }}", {}, ()).chat("x"), "must accept"),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "{% if %}", {}, ()).chat("x"), "must accept"),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "{{ 1/0 }}", {}, ()).chat("x"), "it says: division by zero"),
        (
            lambda c, p: tokens.TextCodec(c.tokenizer, "{% for i in range(10**12) %}{% endfor %}", {}, ()).chat("x"),
            "accept",
        ),
        (
            lambda c, p: tokens.TextCodec(c.tokenizer, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", {}, ()).chat(
                "x"
            ),
            "accept",
        ),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "hello", {}, ()).chat("x"), "must repeat the question"),
    ],
)
def test_refusals(codec, tmp_path, make, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(codec, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", "must be a tokenizer"),
        ("tokenizer_config.json", "[]", "must hold a JSON object"),
        ("tokenizer_config.json", "{", "must hold JSON"),
        ("tokenizer_config.json", '{"chat_template": 3}', "chat_template must be a text"),
        ("generation_config.json", '{"eos_token_id": 99999}', "ids of the tokenizer"),
        ("generation_config.json", '{"eos_token_id": "</s>"}', "ids of the tokenizer"),
    ],
)
def test_broken_files_are_named(llama, name, content, message):
    (llama / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        tokens.load(llama)


def test_a_template_runs_in_a_sandbox(codec):
    hostile = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(ValueError, match="must accept"):
        tokens.TextCodec(codec.tokenizer, hostile, {}, ()).chat("x")
