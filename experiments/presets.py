"""Presets: configurations by name, with a reason beside every number."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from console.words import nearest
from experiments import arms
from experiments.arms import Arm
from experiments.config import Config, Measures, MeshShape, with_settings

__all__ = ["BY_NAME", "Preset", "config"]


class Preset(NamedTuple):
    """A configuration under the arm `accumulated`.

    Attributes:
        meaning: One line, for the help of the commands.
        rates: The learning rate for each optimizer. For another one there is none, and it must be given.
        base: The configuration with AdamW.
    """

    meaning: str
    rates: Mapping[str, float]
    base: Config


def _preset(name: str, meaning: str, rates: dict[str, float], **values: object) -> Preset:
    config = Config(preset=name, arm=arms.BY_NAME["accumulated"], learning_rate=rates["adamw"], **values)  # pyright: ignore[reportArgumentType]
    return Preset(meaning, MappingProxyType(rates), config)


_ALL = (
    _preset(
        "tiny",
        "random parameters of two layers, generated problems: seconds",
        # Two random layers have no pretraining to lose; large enough for seconds to show something.
        {"adamw": 3e-3, "frozen-adamw": 3e-3, "sgd": 0.3, "heavy-ball": 0.03},
        model="tiny",
        data="generated",
        num_updates=8,
        num_pairs=4,
        num_problems=64,  # a second to make
        max_tokens=1024,  # bytes, for the tokenizer is one of bytes
        checkpoint_every=4,
        measures=Measures(probe_pairs=4, alignment_every=4, accuracy_every=8, accuracy_problems=4, max_new_tokens=16),
    ),
    _preset(
        "smollm2",
        "SmolLM2-135M-Instruct and GSM8K: 20 seconds an update on two cores",
        # At AdamW's the post's collapse shows in some thirty updates, at gradient descent's in some seventy
        # (docs/first-results.md); heavy ball with momentum 0.9 ends up at ten times its own.
        {"adamw": 2e-5, "frozen-adamw": 2e-5, "sgd": 1e-2, "heavy-ball": 1e-3},
        model="models/smollm2",
        data="data/gsm8k",
        num_updates=24,
        num_pairs=4,  # an update takes 20 seconds on two cores
        num_problems=2000,
        max_tokens=320,  # holds nine of ten pairs; the rest would make every batch longer
        measures=Measures(alignment_every=8, accuracy_problems=16),
    ),
    _preset(
        "llama3-8b",
        "the post's setting; --dry-run first",
        # The post does not give its rate; this one is usual for models of this size.
        {"adamw": 1e-6, "frozen-adamw": 1e-6, "sgd": 1e-3, "heavy-ball": 1e-4},
        model="models/llama3-8b",
        data="data/gsm8k",
        num_updates=400,
        num_pairs=16,  # "B doesn't get bigger than 32"
        num_parts=2,
        max_tokens=512,
        compute_dtype="bfloat16",
        remat="everything",
        mesh=MeshShape(fsdp=8),
        checkpoint_every=50,
        measures=Measures(
            probe_pairs=16,
            probe_every=5,
            alignment_every=25,
            accuracy_every=50,
            accuracy_problems=128,
            max_new_tokens=256,
        ),
    ),
)
BY_NAME = MappingProxyType({preset.base.preset: preset for preset in _ALL})


def config(name: str, arm: Arm | None = None, settings: Mapping[str, object] = MappingProxyType({})) -> Config:
    """A preset with this arm, at the learning rate of the preset for its optimizer; for an import path AdamW's.

    Args:
        name: The preset.
        arm: Accumulated AdamW unless given.
        settings: Other values, as in `config.with_settings`.

    Raises:
        ValueError: If there is no such preset, it has no learning rate for the optimizer, or a value is refused.
    """
    if name not in BY_NAME:
        raise ValueError(f"preset must be one of {', '.join(BY_NAME)}; got {name!r}.{nearest(name, BY_NAME)}")
    preset = BY_NAME[name]
    arm = arm or preset.base.arm
    rate = preset.rates.get("adamw" if arm.is_imported else arm.optimizer)  # `run` says whose rate it is
    if rate is None and "learning_rate" not in settings:
        raise ValueError(
            f"learning_rate must be given for {arm.optimizer}: the preset {name} has none for it. Give --rate."
        )
    return with_settings(replace(preset.base, arm=arm, learning_rate=rate or preset.base.learning_rate), settings)
