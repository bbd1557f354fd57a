"""Llama, Qwen2 and Qwen3 in NumPy and float64, one text at a time, with loops: slow and easy to check by eye."""

import numpy as np


def _norm(x, weight, epsilon):
    return x / np.sqrt((x**2).mean() + epsilon) * weight


def _frequency(a, i):
    wavelength = 2 * np.pi * a.rope_theta ** (2 * i / a.head_dim)
    scaling = a.rope_scaling
    if scaling is None or wavelength < scaling.original_context / scaling.high_frequency_factor:
        return 2 * np.pi / wavelength
    if wavelength > scaling.original_context / scaling.low_frequency_factor:
        return 2 * np.pi / (wavelength * scaling.factor)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    share = (scaling.original_context / wavelength - low) / (high - low)
    return 2 * np.pi / wavelength * ((1 - share) / scaling.factor + share)


def _rotate(a, x, place):
    half = a.head_dim // 2
    out = np.empty(a.head_dim)
    for i in range(half):
        z = complex(x[i], x[i + half]) * np.exp(1j * place * _frequency(a, i))
        out[i], out[i + half] = z.real, z.imag
    return out


def _heads(a, weights, state, name, count):
    """Vectors of the heads; the weights decide whether there is a bias or a norm."""
    heads = state @ weights[name] + weights.get(f"{name}_bias", 0)
    norm = weights.get(f"{name}_norm")
    return [head if norm is None else _norm(head, norm, a.norm_epsilon) for head in heads.reshape(count, -1)]


def logits(params, a, tokens):
    """The logits (t, v) of one text."""
    weights = {name: np.asarray(leaf, np.float64) for name, leaf in params["layers"].items()}
    stream = [np.asarray(params["embedding"], np.float64)[token] for token in tokens]
    for layer in range(a.num_layers):
        w = {name: leaf[layer] for name, leaf in weights.items()}
        keys, values, out = [], [], []
        for place, state in enumerate(stream):
            n = _norm(state, w["attention_norm"], a.norm_epsilon)
            keys.append([_rotate(a, k, place) for k in _heads(a, w, n, "key", a.num_kv_heads)])
            values.append(_heads(a, w, n, "value", a.num_kv_heads))
            heads = []
            for h, q in enumerate(_heads(a, w, n, "query", a.num_heads)):
                shared = h * a.num_kv_heads // a.num_heads
                turned = _rotate(a, q, place)
                scores = np.array([turned @ key[shared] for key in keys]) / np.sqrt(a.head_dim)
                chances = np.exp(scores - scores.max())
                heads.append(sum(c * v[shared] for c, v in zip(chances / chances.sum(), values, strict=True)))
            x = state + np.concatenate(heads) @ w["output"]
            n = _norm(x, w["mlp_norm"], a.norm_epsilon)
            gate = n @ w["gate"]
            out.append(x + (gate / (1 + np.exp(-gate)) * (n @ w["up"])) @ w["down"])
        stream = out
    states = [_norm(x, np.asarray(params["norm"], np.float64), a.norm_epsilon) for x in stream]
    head = np.asarray(params["head"] if "head" in params else np.asarray(params["embedding"]).T, np.float64)
    return np.array(states) @ head
