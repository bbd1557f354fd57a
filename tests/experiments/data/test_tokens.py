"""Chat templates, boundaries, stop tokens and batches, with a tokenizer of bytes and with templates as they occur."""

import dataclasses
import datetime
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from experiments.data import tokens
from experiments.data.chat import Message
from experiments.model import random_model
from tests.support import chat_shapes

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
    random_model.write(folder)
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
    assert "26 Jul 2024" in tokens.load(llama).chat.render("why")


def test_the_template_may_be_a_file_or_one_of_several(llama):
    config = json.loads((llama / "tokenizer_config.json").read_text())
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": LLAMA}]
    (llama / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": several}))
    expected = tokens.load(llama).chat.render("why")
    (llama / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "not this"}))
    (llama / "chat_template.jinja").write_text(LLAMA)
    assert tokens.load(llama).chat.render("why") == expected


def test_a_prompt_reads_as_the_template_has_it(codec):
    assert codec.chat.render("1+1?") == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    made = codec.encoded("1+1?", "2", is_chat=True)
    assert codec.tokenizer.decode(made.completion, skip_special_tokens=False) == "2<|im_end|>"


# Templates that say more, or less, than one expects; many more shapes of them are in test_chat.py ---------------------

HEADER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


def test_a_conversation_of_several_turns_is_asked_whole(codec):
    turns = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "And 2+2?")]
    text = codec.encoded([Message(*turn) for turn in turns], "4", is_chat=True)
    before = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    assert shown(codec, text.prompt) == f"{before}<|im_start|>assistant\n"
    assert shown(codec, text.completion) == "4<|im_end|>"
    assert codec.encoded([Message("user", "1+1?")], "2", is_chat=True) == codec.encoded("1+1?", "2", is_chat=True)


def test_characters_of_private_use_may_stand_in_any_message(codec):
    """One of them marks the answer: one that no message has."""
    turns = [("system", "\ue000"), ("user", "\ue001"), ("assistant", "\ue002"), ("user", "\ue003")]
    text = codec.encoded([Message(*turn) for turn in turns], "\ue004", is_chat=True)
    before = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    assert shown(codec, text.prompt) == f"{before}<|im_start|>assistant\n"
    assert shown(codec, text.completion) == "\ue004<|im_end|>"


@pytest.mark.parametrize("is_chat", [True, False])
def test_texts_at_once_are_the_texts_one_by_one(codec, is_chat):
    turns = (Message("system", "Be brief."), Message("user", "1+1?"))
    requests = [("1+1?", "2"), (turns, "2"), ("1+1?", "3"), ("", ""), (turns, "3"), ("?", "2" * 90), (list(turns), "2")]
    texts = codec.encoded_all(requests, is_chat=is_chat)
    for request, text in zip(requests, texts, strict=True):
        if isinstance(text, ValueError):
            with pytest.raises(ValueError, match=re.escape(str(text))):
                codec.encoded(*request, is_chat=is_chat)
        else:
            assert codec.encoded(*request, is_chat=is_chat) == text
    is_refused = [isinstance(text, ValueError) for text in texts]
    assert is_refused == [not is_chat and request[:1] in ((turns,), ("",), (list(turns),)) for request in requests]


def test_messages_are_refused_without_the_template(codec):
    with pytest.raises(ValueError, match="messages must be put into the chat template"):
        codec.encoded([Message("user", "1+1?")], "2", is_chat=False)


def test_a_template_that_leaves_out_a_message_is_refused(codec):
    forgetful = with_template(
        codec, ("message['content']", "('' if message['role'] == 'system' else message['content'])")
    )
    with pytest.raises(ValueError, match="must repeat the question"):
        forgetful.encoded([Message("system", "Be brief."), Message("user", "1+1?")], "2", is_chat=True)


def with_template(codec, *changes):
    template = codec.template
    for old, new in changes:
        assert old in template
        template = template.replace(old, new)
    return dataclasses.replace(codec, template=template)


def shown(codec, ids):
    return codec.tokenizer.decode(ids, skip_special_tokens=False)


def test_a_template_without_a_generation_prompt_asks_as_it_answers(codec):
    bare = with_template(codec, (HEADER, ""))
    assert bare.chat.render("1+1?") == "<|im_start|>user\n1+1?<|im_end|>\n"
    assert bare.encoded("1+1?", "2", is_chat=True) == codec.encoded("1+1?", "2", is_chat=True)
    assert bare.prompt("1+1?", is_chat=True) == codec.prompt("1+1?", is_chat=True)


def test_a_thought_in_the_generation_prompt_alone_is_refused_by_name(codec):
    thinking = with_template(codec, ("assistant\\n", "assistant\\n<think>\\n"))
    message = r"its generation prompt has '<think>\\n', the conversation '2<\|im_end\|>\\n'. Do without .* --no-chat"
    with pytest.raises(ValueError, match=message):
        thinking.encoded("1+1?", "2", is_chat=True)
    # The model can be asked: nothing but this text precedes what it generates.
    assert shown(thinking, thinking.prompt("1+1?", is_chat=True)).endswith("<|im_start|>assistant\n<think>\n")
    # An answer that begins with the thought is a text of the template.
    text = thinking.encoded("1+1?", "<think>\none and one</think>2", is_chat=True)
    assert shown(thinking, text.completion) == "one and one</think>2<|im_end|>"


def test_a_thought_in_the_history_alone_belongs_to_the_prompt(codec):
    content = "('<think>\\n\\n</think>\\n\\n' if message['role'] == 'assistant' else '') + message['content']"
    text = with_template(codec, ("message['content']", content)).encoded("1+1?", "2", is_chat=True)
    assert shown(codec, text.prompt).endswith("?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert shown(codec, text.completion) == "2<|im_end|>"


def test_blanks_around_an_answer_are_part_of_it(codec):
    """As Llama 2 writes them; the blank is no token of its own in most vocabularies."""
    text = with_template(codec, ("message['content']", "' ' + message['content'] + ' '")).encoded(
        "?", "2", is_chat=True
    )
    assert shown(codec, text.prompt) == "<|im_start|>user\n ? <|im_end|>\n<|im_start|>assistant\n"
    assert shown(codec, text.completion) == " 2 <|im_end|>"


def test_blanks_at_the_ends_of_an_answer_are_what_the_template_makes_of_them(codec):
    trimming = with_template(codec, ("message['content']", "message['content'] | trim"))
    assert trimming.encoded("?", " 2\n", is_chat=True) == trimming.encoded("?", "2", is_chat=True)
    assert shown(codec, codec.encoded("?", " 2\n", is_chat=True).completion) == " 2\n<|im_end|>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("message['content'].split('</think>')[-1]", "must repeat the answer as it is, .* it has '2<.* for '<think>"),
        ("message['content'] | upper", "must repeat the question"),
        ("message['content'] + message['content']", "must hold the answer once; it holds it 2 times"),
        ("(message['content'] if message['role'] == 'user' else '')", "must hold the answer once; it leaves it out"),
    ],
)
def test_a_template_that_does_not_hold_the_answer_is_refused(codec, content, message):
    with pytest.raises(ValueError, match=f"the chat template {message}.*--no-chat"):
        with_template(codec, ("message['content']", content)).encoded("why?", "<think>a</think>2", is_chat=True)


def test_what_transformers_hands_to_a_template_is_there(codec):
    checks = (
        "{% if tools is none and documents is none %}{% generation %}{{ [3] | tojson(indent=1) }}{% endgeneration %}"
        "{{ strftime_now('%Y') }}{% else %}undefined{% endif %}"
    )
    text = dataclasses.replace(codec, template=checks + codec.template).chat.render("why")
    year = datetime.datetime.now().year
    assert text.startswith((f"[\n 3\n]{year}", f"[\n 3\n]{year - 1}"))  # the year may have ended in between


def test_a_model_with_a_bad_template_can_be_read_without_it(llama):
    config = json.loads((llama / "tokenizer_config.json").read_text())
    for template in ("{% if %}", "{{ raise_exception('no') }}", "hello", [{"name": "tool_use", "template": "x"}, 3]):
        (llama / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
        codec = tokens.load(llama)
        assert codec.stop_tokens == (1, 2)
        assert codec.encoded("why", "so", is_chat=False).prompt[0] == 0
        with pytest.raises(ValueError, match=r"the (chat template|model) must"):
            codec.encoded("why", "so", is_chat=True)


# Tokens that nobody wrote, and tokens that the model does not have ----------------------------------------------------


@pytest.mark.parametrize(("processor", "front"), [("eos", []), ("both", ["<s>"]), ("two", ["<s>", "<|start|>"])])
@pytest.mark.parametrize("model", ["bytes", "letters", "unigram"])
def test_what_a_tokenizer_adds_stands_before_the_prompt_only(tmp_path, model, processor, front):
    built = chat_shapes.tokenizer(model, processor)
    codec = tokens.load(chat_shapes.write(tmp_path, built, None))
    text = codec.encoded("2 + 3 =", " 5", is_chat=False)
    ids = built.encode("2 + 3 = 5", add_special_tokens=False).ids
    assert text.prompt + text.completion == [built.token_to_id(token) for token in front] + ids
    assert text.prompt == codec.prompt("2 + 3 =", is_chat=False)


@pytest.mark.parametrize("model", ["merging with a blank in front", "sentencepiece", "unigram"])
@pytest.mark.parametrize(("prompt", "completion"), [("3 * 4 =", "12"), ("beca", "use 3"), ("Answer:\n", "why")])
def test_a_completion_begins_without_a_blank_of_the_tokenizer(model, prompt, completion):
    """These tokenizers put a blank in front of every text; a completion stands behind one, also where tokens merge."""
    codec = tokens.TextCodec(chat_shapes.tokenizer(model), None, {}, ())
    ids = codec.encoded(prompt, completion, is_chat=False).completion
    text = "".join(str(codec.tokenizer.id_to_token(id_)) for id_ in ids)
    assert text.replace("\u2581", " ").replace("\u0120", " ") == completion
    assert not codec.tokenizer.encode(completion).tokens[0].startswith(completion[0])


def with_vocabulary(folder, size, **config):
    (folder / "config.json").write_text(json.dumps({"vocab_size": size} | config))
    return tokens.load(folder)


@pytest.mark.parametrize("is_chat", [True, False])
def test_ids_that_the_model_does_not_have_are_refused_by_name(llama, is_chat):
    built = tokens.load(llama).tokenizer
    size = built.get_vocab_size()
    built.add_special_tokens([AddedToken("<|image|>", special=True)])
    built.save(str(llama / "tokenizer.json"))
    codec = with_vocabulary(llama, size)
    assert codec.encoded("why", "so", is_chat=is_chat) == tokens.load(llama).encoded("why", "so", is_chat=is_chat)
    message = rf"must be the model's, which has {size} .* gives '<\|image\|>' the id {size}"
    for prompt, completion in (("a<|image|>", "so"), ("why", "so<|image|>")):
        with pytest.raises(ValueError, match=message):
            codec.encoded(prompt, completion, is_chat=is_chat)
    with pytest.raises(ValueError, match=message):
        codec.prompt("a<|image|>", is_chat=is_chat)


def test_gaps_between_ids_refuse_no_stop_token(tmp_path):
    built = chat_shapes.tokenizer("letters")
    last = max(built.get_vocab().values())
    assert last >= built.get_vocab_size()
    chat_shapes.write(tmp_path, built, None)
    assert last in with_vocabulary(tmp_path, last + 1, eos_token_id=[last]).stop_tokens
    for stop in (1, last + 1, -1, 2**40, True, "</s>"):  # the first is in a gap
        with pytest.raises(ValueError, match="eos_token_id must be ids of the tokenizer"):
            with_vocabulary(tmp_path, last + 1, eos_token_id=[stop])


@pytest.mark.parametrize("place", chat_shapes.PLACES)
def test_special_tokens_are_named_in_either_file(tmp_path, place):
    codec = tokens.load(chat_shapes.write(tmp_path, chat_shapes.tokenizer("bytes"), "{{ bos_token }}", place))
    assert (codec.specials["bos_token"], codec.specials["eos_token"]) == ("<s>", "</s>")


def test_tokens_that_only_the_configuration_has_are_tokens(llama):
    config = json.loads((llama / "tokenizer_config.json").read_text())
    named = {"added_tokens_decoder": {"90": {"content": "<|think|>", "special": False}}, "pad_token": "<|pad|>"}
    (llama / "tokenizer_config.json").write_text(json.dumps(config | named))
    codec = tokens.load(llama)
    first = tokens.Tokenizer.from_file(str(llama / "tokenizer.json")).get_vocab_size()
    text = codec.encoded("a<|pad|>", "<|think|>b", is_chat=False)
    assert text == ([0, codec.tokenizer.token_to_id("a"), first + 1], [first, codec.tokenizer.token_to_id("b")])


# Boundaries and batches -----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_the_boundary_never_merges(codec, prompt, completion):
    try:
        made = codec.encoded(prompt, completion, is_chat=False)
    except ValueError:
        return  # lone surrogates have no bytes
    assert (shown(codec, made.prompt), shown(codec, made.completion)) == (prompt, completion)


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
        (lambda c, p: tokens.TextCodec(c.tokenizer, None, {}, ()).chat.render("x"), "must have a chat template"),
        (
            lambda c, p: tokens.TextCodec(c.tokenizer, "{{ raise_exception('no system') }}", {}, ()).chat.render("x"),
            "no system",
        ),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "{{ messages.x.y }}", {}, ()).chat.render("x"), "must accept"),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "{% if %}", {}, ()).chat.render("x"), "must accept"),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "{{ 1/0 }}", {}, ()).chat.render("x"), "it says: division by zero"),
        (
            lambda c, p: tokens.TextCodec(c.tokenizer, "{% for i in range(10**12) %}{% endfor %}", {}, ()).chat.render(
                "x"
            ),
            "accept",
        ),
        (
            lambda c, p: tokens.TextCodec(
                c.tokenizer, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", {}, ()
            ).chat.render("x"),
            "accept",
        ),
        (lambda c, p: tokens.TextCodec(c.tokenizer, "hello", {}, ()).chat.render("x"), "must repeat the question"),
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
        ("tokenizer_config.json", '{"added_tokens_decoder": {"a": "<x>"}}', "must give tokens by their ids"),
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
        tokens.TextCodec(codec.tokenizer, hostile, {}, ()).chat.render("x")
