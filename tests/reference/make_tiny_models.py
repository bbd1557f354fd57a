"""Writes tests/data/tiny-*: a tiny random model of each family, and what transformers computes of it.

    pip install '.[reference]'
    python tests/reference/make_tiny_models.py

Llama 3.1: the wavelengths of its eight rotations lie on both sides of the scaling's two bounds, so that all three
branches matter. Qwen2: tied, without head_dim in config.json, as published. Qwen3: untied, with a head_dim that is not
hidden_size / num_attention_heads. For the last two, a text of neighbouring places comes with the gradient of its
negative log-likelihood, and a text of places far apart with its logits: errors of rotations grow with the distance.
"""

from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.numpy import save_file
from transformers import (  # pyright: ignore[reportMissingImports]
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

DATA = Path(__file__).parents[1] / "data"

LLAMA = LlamaConfig(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,  # not hidden_size / num_attention_heads
    intermediate_size=48,
    rms_norm_eps=1e-5,
    rope_theta=500000.0,
    rope_scaling={
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    max_position_embeddings=512,
    tie_word_embeddings=False,
    bos_token_id=0,
    eos_token_id=[1, 2],
)
QWEN = {
    "vocab_size": 48,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "rope_theta": 10000.0,
    "max_position_embeddings": 16384,
    "eos_token_id": 1,
}
FAR = [0, 1, 2, 40, 41, 333, 1000, 1001, 2047, 2500, 4095, 4096, 5000, 6000, 8191, 8192]


def randomise(model: torch.nn.Module) -> None:
    """Larger than at the usual start: attention is far from uniform, norms from 1 and biases from 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_bias = name.endswith("bias")
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 or is_bias else 0.1))
            if parameter.ndim == 1 and not is_bias:
                parameter.add_(1.0)


def llama() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LLAMA).eval()
    randomise(model)
    tokens = torch.randint(0, 96, (3, 120))
    with torch.no_grad():
        logits = model(tokens).logits
    model.save_pretrained(DATA / "tiny-llama-3.1", safe_serialization=True)
    places = [0, 1, 17, 63, 64, 100, 119]
    save_file(
        {
            "tokens": tokens.numpy().astype(np.int32),
            "places": np.array(places, np.int32),
            "logits": np.ascontiguousarray(logits[:, places].numpy()),
        },
        DATA / "tiny-llama-3.1" / "reference.safetensors",
    )


def qwen(folder: Path, model: torch.nn.Module) -> None:
    randomise(model)
    model.set_attn_implementation("eager")
    tokens = torch.randint(0, 48, (2, 24))
    loss = model(tokens, labels=tokens, num_items_in_batch=1).loss
    loss.backward()
    gradient = {
        f"gradient.{name}": parameter.grad.numpy()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    far = torch.randint(0, 48, (2, len(FAR)))
    with torch.no_grad():  # with a mask; without one, use_cache=False makes new texts of the places behind a gap
        places = torch.tensor(FAR).expand(2, -1)
        logits = model(far, position_ids=places, attention_mask=torch.ones_like(far)).logits
    model.save_pretrained(folder, safe_serialization=True)
    save_file(
        {
            "tokens": tokens.numpy().astype(np.int32),
            "loss": loss.detach().numpy(),
            **gradient,
            "far_tokens": far.numpy().astype(np.int32),
            "far_places": np.array(FAR, np.int32),
            "far_logits": logits.numpy(),
        },
        folder / "reference.safetensors",
    )


def main() -> None:
    llama()
    torch.manual_seed(0)
    qwen(DATA / "tiny-qwen2", Qwen2ForCausalLM(Qwen2Config(**QWEN, tie_word_embeddings=True)).eval())
    qwen(DATA / "tiny-qwen3", Qwen3ForCausalLM(Qwen3Config(**QWEN, head_dim=8, tie_word_embeddings=False)).eval())


if __name__ == "__main__":
    main()
