"""The configuration of a run: frozen data, checked on construction, written to and read from config.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Literal, get_type_hints

from experiments import arms
from experiments.arms import Arm, Rule
from experiments.checked import check_field, check_keys

__all__ = ["PRESETS", "Config", "Measures", "MeshShape", "from_json", "preset", "to_json", "with_settings"]


@dataclass(frozen=True)
class MeshShape:
    """How many ways devices split the work, as in `sharding.mesh`."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        _check(self, {"data": 1, "fsdp": 1, "tensor": 1})


@dataclass(frozen=True)
class Measures:
    """What is measured beyond the update's own gradients, and how often; updates are counted from 1.

    Attributes:
        probe_pairs: Held-out pairs, the same in all arms and seeds; even, for the estimates from two half-batches.
        probe_every: Updates between two readings of the probe's log-probabilities; 0 for none.
        alignment_every: Updates between two readings of the probe's gradients; 0 for none.
        accuracy_every: Updates between two readings of the accuracy; 0 for none.
        accuracy_problems: Test problems that are solved for it.
        max_new_tokens: The most tokens of an answer.
        collapse_nats: A run counts as collapsed from the first reading of the probe at which the log-probability per
            token of the preferred solutions lies this far below its start, and from the first value that is not finite.
            1: every token has become e times less likely.
    """

    probe_pairs: int = 8
    probe_every: int = 1
    alignment_every: int = 0
    accuracy_every: int = 0
    accuracy_problems: int = 16
    max_new_tokens: int = 192
    collapse_nats: float = 1.0

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "probe_pairs": 2,
                "probe_every": 0,
                "alignment_every": 0,
                "accuracy_every": 0,
                "accuracy_problems": 1,
                "max_new_tokens": 1,
            },
        )
        if self.probe_pairs % 2:
            raise ValueError(f"measures.probe_pairs must be even, to be halved; got {self.probe_pairs}.")
        if self.collapse_nats <= 0:
            raise ValueError(f"measures.collapse_nats must be positive; got {self.collapse_nats}.")


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes.

    Attributes:
        preset: Where the numbers come from.
        model: A folder, or "tiny" for random parameters of two layers.
        data: A folder with train.jsonl and test.jsonl, "hub", or "generated".
        arm: How updates are made.
        rule: The numbers of the optimizers.
        learning_rate: eta, the step of an accumulated update.
        seed: Of the order of the data, of the errors in the wrong solutions, and of random starts; of the parameters
            where the model is "tiny".
        num_updates: Each of one preferred and one dispreferred half.
        num_pairs: Solutions in a half, n = B/2.
        num_parts: Parts of a half whose gradients are added up one after another, to save memory.
        num_problems: Problems of the train split that pairs are made from; all if 0.
        max_tokens: Pairs with a text longer than this, prompt and completion together, are left out.
        pairing: Whether the two halves hold solutions of the same problems, or are drawn independently.
        is_chat: Whether questions are put into the model's chat template.
        compute_dtype: Of the model; parameters, gradients and moments are float32.
        remat: What the backward pass computes again, as in `policy.hidden`.
        mesh: How devices share the work.
        checkpoint_every: Updates between two checkpoints.
        keep: Checkpoints that a finished run keeps: the newest ones, and from 2 on the best one beside them. With 0 it
            keeps none, and its last parameters are not saved. An unfinished run keeps 2 at least: the newest, and the
            one before in case that it is damaged.
        measures: What is measured, and how often.
    """

    preset: str
    model: str
    data: str
    arm: Arm
    learning_rate: float
    num_updates: int
    num_pairs: int
    max_tokens: int
    rule: Rule = field(default_factory=Rule)
    seed: int = 0
    num_parts: int = 1
    num_problems: int = 0
    pairing: Literal["same", "independent"] = "same"
    is_chat: bool = True
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["nothing", "products", "everything"] = "products"
    mesh: MeshShape = field(default_factory=MeshShape)
    checkpoint_every: int = 10
    keep: int = 1
    measures: Measures = field(default_factory=Measures)

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "seed": 0,
                "num_updates": 1,
                "num_pairs": 1,
                "num_parts": 1,
                "num_problems": 0,
                "max_tokens": 2,
                "checkpoint_every": 1,
                "keep": 0,
            },
        )
        if not 0 < self.learning_rate < 1e3:
            raise ValueError(f"config.learning_rate must be positive and below 1000; got {self.learning_rate}.")
        if self.num_pairs % self.num_parts:
            raise ValueError(
                f"config.num_parts must divide num_pairs; got {self.num_parts} for {self.num_pairs} pairs."
            )
        rows = self.mesh.data * self.mesh.fsdp
        for name, count in (("num_pairs / num_parts", self.num_pairs // self.num_parts),):
            if count % rows:
                raise ValueError(f"mesh.data x mesh.fsdp must divide {name}; got {rows} for {count}.")
        if not self.model or not self.data:
            raise ValueError("config.model and config.data must not be empty.")


def _check(owner: object, least: Mapping[str, int]) -> None:
    assert is_dataclass(owner)
    where = type(owner).__name__.lower().replace("meshshape", "mesh")
    for item in fields(owner):
        kind = _class_of(owner, item.name)
        if not (isinstance(kind, type) and is_dataclass(kind)):
            check_field(owner, item, where)
        elif not isinstance(value := getattr(owner, item.name), kind):
            raise TypeError(f"{where}.{item.name} must be of {kind.__name__}; got {str(value)[:60]!r}.")
    for name, bound in least.items():
        if getattr(owner, name) < bound:
            raise ValueError(f"{where}.{name} must be at least {bound}; got {getattr(owner, name)}.")


def _class_of(owner: object, name: str) -> type:
    return get_type_hints(owner if isinstance(owner, type) else type(owner))[name]


# Presets --------------------------------------------------------------------------------------------------------------

LEARNING_RATES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        # Two random layers have no pretraining to lose; large enough for seconds to show something.
        "tiny": {"adamw": 3e-3, "frozen-adamw": 3e-3, "sgd": 0.3, "heavy-ball": 0.03},
        # At AdamW's the post's collapse shows in some thirty updates, at gradient descent's in some seventy
        # (docs/first-results.md); heavy ball with momentum 0.9 ends up at ten times its own.
        "smollm2": {"adamw": 2e-5, "frozen-adamw": 2e-5, "sgd": 1e-2, "heavy-ball": 1e-3},
        # The post does not give its rate; this one is usual for models of this size.
        "llama3-8b": {"adamw": 1e-6, "frozen-adamw": 1e-6, "sgd": 1e-3, "heavy-ball": 1e-4},
    }
)

_BASES: Mapping[str, Config] = MappingProxyType(
    {
        "tiny": Config(
            preset="tiny",
            model="tiny",
            data="generated",
            arm=arms.BY_NAME["accumulated"],
            learning_rate=LEARNING_RATES["tiny"]["adamw"],
            num_updates=8,
            num_pairs=4,
            num_problems=64,  # a second to make
            max_tokens=1024,  # bytes, for the tokenizer is one of bytes
            checkpoint_every=4,
            measures=Measures(
                probe_pairs=4, alignment_every=4, accuracy_every=8, accuracy_problems=4, max_new_tokens=16
            ),
        ),
        "smollm2": Config(
            preset="smollm2",
            model="models/smollm2",
            data="data/gsm8k",
            arm=arms.BY_NAME["accumulated"],
            learning_rate=LEARNING_RATES["smollm2"]["adamw"],
            num_updates=24,
            num_pairs=4,  # an update takes 20 seconds on two cores
            num_problems=2000,
            max_tokens=320,  # holds nine of ten pairs; the rest would make every batch longer
            measures=Measures(alignment_every=8, accuracy_problems=16),
        ),
        "llama3-8b": Config(
            preset="llama3-8b",
            model="models/llama3-8b",
            data="data/gsm8k",
            arm=arms.BY_NAME["accumulated"],
            learning_rate=LEARNING_RATES["llama3-8b"]["adamw"],
            num_updates=400,
            num_pairs=16,  # "B doesn't get bigger than 32"
            num_parts=2,
            max_tokens=512,
            compute_dtype="bfloat16",
            remat="everything",
            mesh=MeshShape(fsdp=8),
            checkpoint_every=50,
            measures=Measures(probe_pairs=16, probe_every=5, alignment_every=25, accuracy_every=50,
                              accuracy_problems=128, max_new_tokens=256),
        ),
    }
)  # fmt: skip
PRESETS = tuple(_BASES)


def preset(name: str, arm: Arm | None = None) -> Config:
    """A preset with this arm, at the preset's learning rate for the arm's optimizer.

    Raises:
        ValueError: If there is no such preset.
    """
    if name not in _BASES:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}.")
    arm = arm or _BASES[name].arm
    return replace(_BASES[name], arm=arm, learning_rate=LEARNING_RATES[name][arm.optimizer])


# Changes, and files ---------------------------------------------------------------------------------------------------


def with_settings(config: Config, settings: Mapping[str, object]) -> Config:
    """The configuration with other values, by dotted names: {"rule.b2": 0.95, "num_pairs": 8}.

    Values that are texts are read as what the field is.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If there is no such name, or a value is out of range.
    """
    changed = to_json(config)
    for name, value in settings.items():
        *path, last = name.split(".")
        node: object = changed
        for part in path:
            node = check_keys(node, _known(node), "settings").get(part) if part in _known(node) else None
            if not isinstance(node, dict):
                check_keys({name: value}, _flat(changed), "settings")
        node = node if isinstance(node, dict) else {}
        if last not in node or isinstance(node[last], dict):
            check_keys({name: value}, _flat(changed), "settings")
        owner = Config
        for part in path:
            owner = _class_of(owner, part)
        node[last] = _read(value, _class_of(owner, last), name)
    return from_json(changed)


def _known(node: object) -> dict[str, object]:
    return node if isinstance(node, dict) else {}


def _flat(node: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _read(value: object, kind: type, name: str) -> object:
    """A text from the command line as what it stands for."""
    if not isinstance(value, str) or kind not in (bool, int, float):
        return value
    if kind is bool:
        if value not in ("true", "false"):
            raise ValueError(f"{name} must be true or false; got {value!r}.")
        return value == "true"
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{name} must be a {'whole ' if kind is int else ''}number; got {value!r}.") from None


def to_json(config: Config) -> dict[str, object]:
    """The configuration as JSON has it."""
    return asdict(config)


def from_json(given: object) -> Config:
    """The configuration that `to_json` made.

    Raises:
        TypeError: If something is of another type.
        ValueError: If a key is missing or unknown, or a value out of range; the message names the nearest key.
    """
    return _built(Config, given, "config")


def _built(kind: type, given: object, where: str):  # noqa: ANN202  # an instance of the class it is given
    known = {item.name: item for item in fields(kind)}
    record = check_keys(given, dict(known), where)
    if missing := [name for name in known if name not in record]:
        raise ValueError(f"{where} must have the key {missing[0]!r}.")
    inner = {
        name: _built(hint, record[name], name)
        for name in known
        if isinstance(hint := _class_of(kind, name), type) and is_dataclass(hint)
    }
    return kind(**{**record, **inner})
