"""The model against a second one written with loops, against transformers' numbers, and against laws."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.data import tokens
from experiments.model import objectives, pretrained, transformer
from tests.oracles import plain_transformer
from tests.support.rounding import assert_equal_to_round_off
from tests.support.tiny_models import (
    BY_FAMILY,
    EVERYTHING,
    SMALL,
    STRETCHED,
    all_logits,
    published_tensors,
    random_params,
    texts,
)

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize("architecture", BY_FAMILY.values(), ids=BY_FAMILY)
def test_logits_are_those_of_the_loops(architecture):
    params = random_params(architecture)
    ids = np.random.default_rng(1).integers(0, architecture.vocabulary, (2, 11))
    got = all_logits(params, architecture, ids, compute_dtype=jnp.float64)
    expected = np.stack([plain_transformer.logits(params, architecture, row) for row in ids])
    # The angles of the rotations are single precision in the published models.
    assert np.abs(got - expected).max() < 2e-6 * np.abs(expected).max()


def test_logits_are_those_of_transformers():
    """Llama 3.1 with all three branches of its scaling; the numbers are of tests/reference/make_tiny_models.py."""
    reference = load_file(DATA / "tiny-llama-3.1" / "reference.safetensors")
    params, architecture = pretrained.load(DATA / "tiny-llama-3.1")
    got = np.asarray(all_logits(params, architecture, reference["tokens"]))[:, reference["places"]]
    assert np.abs(got - reference["logits"]).max() < 1e-4
    assert np.abs(reference["logits"]).max() > 5  # and the bound is small beside them


def far_logits(params, architecture, ids, places):
    """Logits of texts with places far apart, each place with those before it."""
    rows, width = ids.shape
    is_seen = jnp.broadcast_to(jnp.tril(jnp.ones((width, width), bool)), (rows, width, width))
    cache = transformer.empty_cache(architecture, rows, width)
    states, _ = jax.jit(transformer.with_cache, static_argnums=1)(
        params, architecture, ids, np.tile(places, (rows, 1)), is_seen, cache, 0
    )
    return transformer.logits(params, states)


@pytest.fixture(scope="module", params=["tiny-qwen2", "tiny-qwen3"])
def qwen(request):
    """A folder, its parameters and architecture, and what transformers computes of it in float32."""
    folder = DATA / request.param
    return *pretrained.load(folder), load_file(folder / "reference.safetensors")


def test_gradients_of_qwen_are_those_of_transformers(qwen):
    params, architecture, reference = qwen

    @jax.jit
    @jax.value_and_grad
    def loss(params, ids):
        states = transformer.hidden(params, architecture, ids)
        log_probs = jax.nn.log_softmax(transformer.logits(params, states)[:, :-1])
        return -jnp.take_along_axis(log_probs, ids[:, 1:, None], -1).sum()

    value, gradient = loss(params, jnp.asarray(reference["tokens"]))
    assert float(value) == pytest.approx(float(reference["loss"]), rel=1e-6)
    expected = {name.removeprefix("gradient."): x for name, x in reference.items() if name.startswith("gradient.")}
    got = published_tensors(gradient)
    assert got.keys() == expected.keys()
    for name, other in expected.items():
        error = np.linalg.norm(got[name] - other) / np.linalg.norm(other)
        assert error < 1e-5, name


def test_logits_of_qwen_at_places_far_apart_are_those_of_transformers(qwen):
    params, architecture, reference = qwen
    got = np.asarray(far_logits(params, architecture, reference["far_tokens"], reference["far_places"]))
    assert np.abs(got - reference["far_logits"]).max() < 5e-6 * np.abs(reference["far_logits"]).max()
    near = np.asarray(all_logits(params, architecture, reference["far_tokens"]))
    assert np.abs(near - reference["far_logits"]).max() > 0.1  # the places matter


@pytest.mark.reference
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Qwen2", {"hidden_size": 64, "rope_theta": 1e6, "tie_word_embeddings": True}),  # heads of 16
        ("Qwen3", {"hidden_size": 48, "head_dim": 32, "rope_theta": 5e6, "tie_word_embeddings": False}),
    ],
)
def test_a_text_of_thousands_of_tokens_against_transformers(kind, config, tmp_path):
    """Logits and gradients in float32, at 4,500 places.

    torch computes a frequency as 1 / base^x, XLA as base^-x: they differ by a unit in the last place, which thousands
    of places multiply. So transformers computes a second time with the frequencies of this model: only round-off is
    left.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tests.reference import make_tiny_models  # noqa: PLC0415  # needs torch

    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**make_tiny_models.QWEN | config)
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config)
    make_tiny_models.randomise(theirs)
    theirs.set_attn_implementation("eager")
    theirs.save_pretrained(tmp_path)
    params, architecture = pretrained.load(tmp_path)
    ids = np.random.default_rng(1).integers(0, 48, (1, 4500))

    @jax.jit
    def ours(params):
        def loss(params):
            scores = transformer.logits(params, transformer.hidden(params, architecture, ids))
            return -jnp.take_along_axis(jax.nn.log_softmax(scores[:, :-1]), ids[:, 1:, None], -1).mean(), scores

        return jax.grad(loss, has_aux=True)(params)

    gradient, scores = ours(params)
    gradient = published_tensors(gradient)
    for frequencies_of, bound in (("theirs", 3e-4), ("ours", 5e-5)):
        if frequencies_of == "ours":
            frequencies = np.asarray(jax.jit(transformer._frequencies, static_argnums=0)(architecture))  # pyright: ignore[reportPrivateUsage]
            theirs.model.rotary_emb.inv_freq.copy_(torch.tensor(frequencies))
        theirs.zero_grad()
        out = theirs(torch.tensor(ids), labels=torch.tensor(ids))
        out.loss.backward()
        expected = out.logits.detach().numpy()
        logit = np.abs(np.asarray(scores) - expected).max() / np.abs(expected).max()
        named = {name: leaf.grad.numpy() for name, leaf in theirs.named_parameters()}
        assert gradient.keys() == named.keys()
        worst = max(np.linalg.norm(gradient[name] - leaf) / np.linalg.norm(leaf) for name, leaf in named.items())
        print(f"{kind}, frequencies: {frequencies_of}; error of logits {logit:.1e}, of gradients {worst:.1e}")
        assert max(logit, worst) < bound


def test_remat_changes_no_gradient():
    params = random_params(SMALL)
    batch = tokens.batch(texts(SMALL), multiple=4)
    kept, *others = (
        jax.jit(jax.grad(objectives.negative_log_likelihood(SMALL, compute_dtype=jnp.float64, remat=remat)))(
            params, batch
        )
        for remat in ("nothing", "products", "everything")
    )
    for other in others:
        assert_equal_to_round_off(other, kept)


def test_later_tokens_and_other_rows_change_nothing():
    params = random_params(SMALL)
    ids = np.random.default_rng(1).integers(0, 24, (2, 9))
    other = ids.copy()
    other[0, 5:] = (other[0, 5:] + 7) % 24
    other[1] = (other[1] + 3) % 24
    before, after = (all_logits(params, SMALL, x, compute_dtype=jnp.float64)[0, :5] for x in (ids, other))
    assert_equal_to_round_off(after, before)


@pytest.mark.parametrize("architecture", [STRETCHED, EVERYTHING])
def test_cached_decoding_equals_the_full_pass(architecture):
    params = random_params(architecture)
    rng = np.random.default_rng(2)
    ids, lengths = rng.integers(0, 24, (3, 12)), np.array([4, 6, 2])
    full = all_logits(params, architecture, ids, compute_dtype=jnp.float64)
    cache = transformer.empty_cache(architecture, 3, 16, jnp.float64)
    with_cache = jax.jit(transformer.with_cache, static_argnums=1)
    # Prompts of different lengths, padded to the right with what must not matter.
    prompt = np.where(np.arange(6) < lengths[:, None], ids[:, :6], 23)
    places = np.arange(16)
    causal = jnp.asarray(np.broadcast_to(places <= np.arange(6)[:, None], (3, 6, 16)))
    states, cache = with_cache(params, architecture, prompt, np.tile(np.arange(6), (3, 1)), causal, cache, jnp.int32(0))
    for row, length in enumerate(lengths):
        got = transformer.logits(params, states)[row, :length]
        assert_equal_to_round_off(got, full[row, :length], operations=300)
    for step in range(6):
        at = (lengths + step)[:, None]
        is_seen = (places < lengths[:, None]) | ((places >= 6) & (places <= 6 + step))
        more = np.take_along_axis(ids, at, 1)
        states, cache = with_cache(
            params, architecture, more, at, jnp.asarray(is_seen)[:, None], cache, jnp.int32(6 + step)
        )
        for row, place in enumerate(at[:, 0]):
            got = transformer.logits(params, states)[row, 0]
            assert_equal_to_round_off(got, full[row, place], operations=300)


def test_hvp_against_differences_of_the_gradient():
    """Forward over reverse, float64: central differences with two steps, extrapolated, agree to eight digits."""
    params = random_params(STRETCHED, scale=20.0)
    batch = tokens.batch(texts(STRETCHED), multiple=4)
    direction = random_params(STRETCHED, seed=5)
    loss = objectives.negative_log_likelihood(STRETCHED, compute_dtype=jnp.float64)
    gradient = jax.jit(lambda p: jax.grad(loss)(p, batch))
    hvp = jax.jit(lambda p, v: jax.jvp(lambda q: jax.grad(loss)(q, batch), (p,), (v,))[1])(params, direction)

    def difference(step):
        there, back = (gradient(jax.tree.map(lambda p, v, s=s: p + s * v, params, direction)) for s in (step, -step))
        return jax.tree.map(lambda a, b: (a - b) / (2 * step), there, back)

    coarse, fine = difference(2e-4), difference(1e-4)
    expected = jax.tree.map(lambda a, b: (4 * b - a) / 3, coarse, fine)
    error = max(
        float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(hvp), jax.tree.leaves(expected), strict=True)
    )
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(hvp))
    assert error < 1e-8 * size


def test_bfloat16_computes_near_float32_and_keeps_float32_gradients():
    params = random_params(SMALL, np.float32, scale=4.0)
    batch = tokens.batch(texts(SMALL), multiple=4)
    wide, narrow = (
        jax.jit(jax.value_and_grad(objectives.negative_log_likelihood(SMALL, compute_dtype=dtype)))(params, batch)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(narrow[1]))
    assert float(narrow[0]) == pytest.approx(float(wide[0]), rel=0.02)
    assert narrow[0] != wide[0]
