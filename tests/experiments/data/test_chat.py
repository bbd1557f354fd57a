"""Chat templates of many shapes: rendered right, or refused by name."""

import warnings
from functools import cache

import jinja2
import pytest

from experiments.data import tokens
from tests.support import chat_shapes

REMEDY = "--no-chat"


@cache
def tokenizer(model, processor, edge):
    return chat_shapes.tokenizer(model, processor, edge).to_str()


def loaded(folder, shape, model, processor, edge, place):
    built = tokens.Tokenizer.from_str(tokenizer(model, processor, edge))
    return tokens.load(chat_shapes.write(folder, built, shape.template(), place))


def outcome(codec, question, answer):
    """The ids, or the complaint."""
    try:
        return codec.encoded(question, answer, is_chat=True), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("number", range(6))
def test_a_conversation_is_right_or_refused_by_name(tmp_path, number):
    """Against the conversation as Python writes it, tokenised whole."""
    count = 0
    for place_of_case, case in enumerate(chat_shapes.cases(10, seed=number)):
        shape = case[0]
        codec = loaded(tmp_path / str(place_of_case), *case)
        for question, answer in chat_shapes.TEXTS:
            text, says = outcome(codec, question, answer)
            fault = shape.fault(question, answer)
            if fault == "":
                continue
            if fault is not None:
                assert says is not None, (case, answer)
                assert fault in says, (case, answer)
                assert REMEDY in says
                continue
            whole = codec.tokenizer.encode(shape.whole(question, answer), add_special_tokens=False).ids
            prompt = codec.tokenizer.encode(shape.before(question), add_special_tokens=False).ids
            assert codec.prompt(question, is_chat=True) == prompt, case
            if whole[: len(prompt)] != prompt:
                assert says is not None, (case, answer)
                is_joined = shape.whole(question, answer).startswith(shape.before(question))
                expected = "must begin with a token of its own" if is_joined else "must ask for an answer with the text"
                assert expected in says, (case, answer)
                assert REMEDY in says
                continue
            assert text is not None, (case, answer, says)
            assert text.prompt == prompt, (case, answer)
            assert text.completion == whole[len(prompt) :][: len(text.completion)], (case, answer)
            end = chat_shapes.STYLES[shape.style].end
            if end is None:
                assert text.prompt + text.completion == whole
            else:
                id_ = codec.tokenizer.token_to_id(end)
                assert id_ is not None
                assert text.completion.index(id_) == len(text.completion) - 1, (case, answer)
                assert id_ in codec.stop_tokens
            count += 1
    assert count >= 5


@pytest.mark.reference
@pytest.mark.parametrize("number", range(25))
def test_conversations_are_those_of_transformers(tmp_path, number):
    """150 templates with tokenizers: the text and the ids of transformers; what is refused has no boundary there."""
    transformers = pytest.importorskip("transformers")
    for place, case in enumerate(chat_shapes.cases(6, seed=1000 + number)):
        folder = tmp_path / str(place)
        codec = loaded(folder, *case)
        with warnings.catch_warnings(action="ignore"):
            other = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        for question, answer in chat_shapes.TEXTS:
            user, bot = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
            text, says = outcome(codec, question, answer)
            try:
                asked = other.apply_chat_template([user], add_generation_prompt=True, return_dict=True)["input_ids"]
                whole = other.apply_chat_template([user, bot], return_dict=True)["input_ids"]
                written = other.apply_chat_template([user, bot], tokenize=False)
            except jinja2.TemplateError:
                assert says is not None
                assert "must accept" in says
                continue
            assert codec.chat.render(question, answer) == written
            assert codec.chat.render(question) == other.apply_chat_template(
                [user], add_generation_prompt=True, tokenize=False
            )
            if text is not None:
                assert text.prompt + text.completion == whole[: len(text.prompt) + len(text.completion)], (case, answer)
                assert len(text.prompt) >= len(asked) or case[0].request == "none"
            elif case[0].content not in ("twice", "dropped", "shouted", "quoted"):
                assert whole[: len(asked)] != asked or case[0].request == "none", (case, answer, says)
