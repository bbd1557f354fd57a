"""Writes tests/data/tiny-llama-3.1: a tiny random Llama 3.1 with rope scaling, and what transformers says of it.

    pip install '.[reference]'
    python tests/reference/make_tiny_llama.py

The wavelengths of its eight rotations lie on both sides of the scaling's two bounds, so that all three branches matter.
"""

from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parents[2] / "data" / "tiny-llama-3.1"


def main() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
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
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Larger than at the usual start: attention is far from uniform and the norms from 1.
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 0.1))
            if parameter.ndim == 1:
                parameter.add_(1.0)
            assert name
    tokens = torch.randint(0, 96, (3, 120))
    with torch.no_grad():
        logits = model(tokens).logits
    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(FOLDER, safe_serialization=True)
    places = [0, 1, 17, 63, 64, 100, 119]
    save_file(
        {
            "tokens": tokens.numpy().astype(np.int32),
            "places": np.array(places, np.int32),
            "logits": np.ascontiguousarray(logits[:, places].numpy()),
        },
        FOLDER / "reference.safetensors",
    )


if __name__ == "__main__":
    main()
