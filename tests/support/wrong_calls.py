"""Wrong values for every parameter of every public function of the numerics, by hand, and what comes of them.

Run as a program, without the tests' own type checks; prints one JSON line per call: the function, the wrong arguments,
and the answer.
"""

import importlib
import inspect
import json
import pkgutil
import random
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import numerics
from numerics import comparison, optimizers, problems, random_schedules, schedules
from numerics.epoch import Epoch

jax.config.update("jax_enable_x64", True)

ROOM = Path(numerics.__file__).parent
GRAMMAR = ROOM.parent / "console" / "grammar.py"  # which reads words for every room
NUM_RANDOM = 200

# Losses are what a user writes; the command is tested by itself.
EXEMPT = {
    "comparisons",
    "configure",
    "main",
    "single",
    "sweep",
    "language_model_loss",
    "perceptron_loss",
    "polynomial_loss",
    "quadratic_loss",
}
OBJECTS = ("Losses", "RandomSchedule", "Epoch")  # classes that a user builds; the others are results

SGD = optimizers.gradient_descent()
MADE = problems.make("quadratic", 2, seed=0)
TREE = MADE.params
WORD = schedules.interleaved(2, first="-")
JOINT = random_schedules.RandomSchedule("joint", "-")


def square(params, batch):
    return jnp.sum(params["x"] ** 2)


RIGHT = {
    "losses": MADE.losses,
    "schedule": WORD,
    "rule": SGD,
    "params": TREE,
    "state": SGD.init(TREE),
    "step_size": 0.01,
    "frame": "accumulated",
    "order": 2,
    "read_scale": 0.0,
    "grouping": "step",
    "reduction": "sum",
    "is_one_sided": False,
    "tolerance": 64.0,
    "per": "schedule",
    "transform_gradient": lambda gradient: gradient,
    "gradient_stats": optax.tree.vdot,
    "num_pairs": 2,
    "num_steps": 4,
    "num_losses": 4,
    "key": jax.random.key(0),
    "num_samples": 2,
    "num_halvings": 5,
    "num_warm_up": 0,
    "largest_step": 0.01,
    "coefficients": (TREE, TREE, TREE),
    "function": lambda schedule: schedule.scales,
    "words": random_schedules.chunks(JOINT, 2),
    "quantity": "pair-mean",
    "rate": 0.5,
    "stages": {"rule": SGD},
    "first": "-",
    "other_order": [1, 0],
    "scales": [1.0, 2.0, 1.0, 2.0],
    "text": "-+",
    "names": ("-", "+"),
    "counts": (2, 2),
    "has_aux": False,
    "has_sums_by_kind": False,
    "minus": TREE,
    "plus": TREE,
    "minus_batches": {"a": jnp.ones((2, 1))},
    "plus_batches": {"a": jnp.ones((2, 1))},
    "batches": (None,),
    "product": 1.0,
    "norm_minus": 1.0,
    "norm_plus": 1.0,
    "displacement": TREE,
    "scale": 1.0,
    "time": 1.0,
    "tree": TREE,
    "what": "a tree must be finite",
    "max_norm": 1.0,
    "b1": 0.9,
    "b2": 0.99,
    "eps": 1e-8,
    "eps_root": 1e-8,
    "weight_decay": 0.1,
    "second_moment": TREE,
    "step_sizes": 0.5 ** np.arange(7),
    "remainders": 0.25 ** np.arange(7),
    "floors": 1e-16 * np.ones(7),
    "terms": 0.5 ** np.arange(7),
    "theory": 2,
    "is_usable": np.ones(7, bool),
    "excluded": "",
    "fourth_differences": np.ones(13),
    "noise": 1e-16,
    "name": "quadratic",
    "seed": 0,
    "is_opposite": False,
    "dtype": "float64",
    "title": "a title",
    "suffix": ".svg",
    "random": np.random.default_rng(0),
    "widths": (2, 3, 1),
    "num_tokens": 5,
    "width": 4,
    "num_layers": 1,
    "length": 3,
    "start": "-",
    "pairs": "joint",
    "comparison": comparison.Comparison(
        "start", np.ones(2), np.ones(2), np.ones((3, 2)), np.ones((3, 2)), np.ones(2), (), None
    ),
    "figure": Figure(),
    # where a name means something else
    "averages.schedule": JOINT,
    "random_schedules.schedule": JOINT,
    "losses.minus_functions": (jnp.sum,),
    "losses.plus_functions": (jnp.sum,),
    "fields.function": square,
    "fields.mask": {"x": True},
    "micro_batches.function": square,
    "micro_batches.batches": ({"a": jnp.ones((2, 1))}, {"a": jnp.ones((3, 1))}),
    "random_schedules.scales": (1.0, 2.0),
    "random_schedules.per": 2,
    "schedules.order": [1, 0],
    "schedules.losses": [0, 1],
    "losses.minus": square,
    "losses.plus": square,
    "losses.function": square,
    "losses.functions": [lambda params: jnp.sum(params["x"])],
    "losses.of_params.names": ("a",),
    "losses.Losses.functions": (square,),
    "losses.Losses.names": ("a",),
    "convergence.first_kink.fourth_differences": np.ones((8, 13)),
    "optimizers.parse.text": "adam:b1=0.5",
    "optimizers.build.name": "frozen-adamw",
    "optimizers.stages.name": "clipped-adamw",
    "options": {"b1": 0.5},
    "cases.name": "palindrome",
}

NO_NUMBER = (None, "0.1", [0.1], np.ones(2), 1j, True, square)
NO_REAL = (*NO_NUMBER, float("nan"), float("inf"), jnp.nan)
NOT_NEGATIVE = (*NO_REAL, -0.1)
NO_WHOLE = (*NO_NUMBER, 2.5, 2.0, -1, float("nan"), np.float64(3.0))
NO_COUNT = (*NO_WHOLE, 0)
NO_TREE = (
    *(
        None,
        {},
        "x",
        {"x": 1.0},
        {"x": [1.0, 2.0]},
        {"x": "x"},
        {"x": jnp.ones(6, int)},
        {"x": jnp.ones(6, jnp.float16)},
    ),
    *({"x": np.ones(6, bool)}, {"x": np.ones(6, complex)}, {"x": np.ones(6, object)}, square),
)
NO_FUNCTION = (None, "loss", 3, [square], {"loss": square})
NO_FLAG = (None, 0, 1, "yes", "False", 1.0, [])
NO_TEXT = (None, 3, ["-", "+"], b"-+", np.array(["-"]))
NO_VECTOR = (None, [1.0, 0.5, 0.25], "1.0", 3.0, np.ones((2, 2, 2)), np.array(["a"] * 7), np.ones(7, int), square)
BY_NAME = ("SUM", "avg", "pairs", "", None, 3, True, ["sum"], np.ones(2), "steps")
LISTS: tuple[Any, Any] = ([0, 1], [1.0, 1.0])  # no arrays
NO_SCHEDULE = (
    *(None, [0, 1], "-+", 3, JOINT.pairs, (np.array([0, 1]),), schedules.Schedule(*LISTS)),
    *(schedules.Schedule(np.array(part), np.array(scales)) for part, scales in (
        ([0.0, 1.0], [1.0, 1.0]), ([0, 1], [1.0, 0.0]), ([0, 1], [1.0, np.nan]), ([0, 1], [1.0]),
        ([[0, 1]], [[1.0, 1.0]]),
        ([], []), ([0, 1], ["a", "b"]), ([-1, 0], [1.0, 1.0]), ([True, False], [1.0, 1.0]), ([0, 1], [1.0, 1j]),
    )),
)  # fmt: skip
NO_RANDOM = (None, "joint", 2, WORD, ("joint", "-"), [0, 1])
OUT_OF_RANGE = schedules.Schedule(np.array([0, 4]), np.ones(2))
NO_RULE = (
    *(None, "adam", 0.1, square, {}, optax.polyak_sgd(), optax.lbfgs(), optax.contrib.reduce_on_plateau()),
    *(optax.lookahead(optax.sgd(1.0), 2, 0.5), optax.contrib.sophia(1.0), optax.contrib.momo()),
)
NO_STATE = ("x", {}, (1, 2), optax.adam(1.0).init(TREE), optax.sgd(1.0, momentum=0.9).init(TREE), [square])

WRONG = {
    "losses": (None, [], "losses", square, {"a": square}, (square,), 3),
    "epoch": (None, "epoch", 3, MADE, (MADE.losses, WORD, SGD, TREE)),
    "schedule": (*NO_SCHEDULE, OUT_OF_RANGE, JOINT),
    "comparison.schedule": (*NO_SCHEDULE, OUT_OF_RANGE),
    "epoch.schedule": (*NO_SCHEDULE, OUT_OF_RANGE),
    "rule": NO_RULE,
    "params": (*NO_TREE, {"x": jnp.ones(5)}, {"y": jnp.ones(6)}, {"x": jnp.full(6, jnp.nan)}, jnp.ones(6)),
    "state": NO_STATE,
    "step_size": NOT_NEGATIVE,
    "frame": BY_NAME,
    "order": (0, 4, 2.5, "2", None, True, [2], -1, np.ones(2)),
    "read_scale": NO_REAL,
    "grouping": BY_NAME,
    "reduction": BY_NAME,
    "per": (*BY_NAME, 0, -1, 2.5),
    "transform_gradient": ("clip", 3, [square], lambda gradient: gradient["x"], lambda gradient: {"x": jnp.ones(3)},
             lambda gradient: 1),
    "gradient_stats": ("norm", 3, [square], lambda gradient: gradient, lambda gradient, before: "norm"),
    "num_pairs": NO_COUNT,
    "num_steps": NO_COUNT,
    "num_losses": NO_COUNT,
    "key": (None, 0, "key", np.ones(2), [0, 1], jnp.ones((), int), square),
    "num_samples": (*NO_COUNT, 1),
    "num_halvings": NO_COUNT,
    "num_warm_up": NO_WHOLE,
    "largest_step": tuple(x for x in (*NOT_NEGATIVE, 0.0) if x is not None),
    "coefficients": ((), [TREE] * 3, (TREE, {}), (TREE, {"y": TREE["x"]}, TREE), (1.0, 2.0, 3.0), "c", 3,
                     (TREE, {"x": jnp.ones(5)}, TREE)),
    "function": NO_FUNCTION,
    "words": (None, "-+", [WORD], WORD, 3, np.zeros((2, 4), int)),
    "quantity": BY_NAME,
    "rate": NOT_NEGATIVE,
    "stages": (None, {}, [SGD], {"a": None}, {"a": optax.adam}, {3: SGD}, SGD, "sgd", {"a": optax.polyak_sgd()}),
    "first": BY_NAME,
    "other_order": ([0, 0], [0], [0.0, 1.0], ["0", "1"], "01", 3, [1, 2], [[0, 1]], [True, False]),
    "scales": (None, [1.0], ["1", "2", "1", "2"], [1.0, -1.0, 1.0, 1.0], [1.0, np.nan, 1.0, 1.0], "1111", 3.0,
               [True] * 4, [1j] * 4, np.ones((2, 2)), [1.0, 0.0, 1.0, 1.0]),
    "text": (*NO_TEXT, "", "x", "-x", ","),
    "names": (None, "-+", ("-", "-"), ("-",), ("-", 3), ("", "-"), 3),
    "counts": (None, (2,), (2, 0), (2, -1), (2, 1.5), ("2", "2"), (2, None), 3, (True, True)),
    "has_aux": NO_FLAG,
    "has_sums_by_kind": NO_FLAG,
    "minus": (*NO_TREE, {"x": jnp.ones(5)}, {"y": jnp.ones(6)}),
    "plus": (*NO_TREE, {"x": jnp.ones(5)}, {"y": jnp.ones(6)}),
    "minus_batches": (None, {"a": jnp.ones((3, 1))}, {"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}, {"a": [1.0, 2.0]},
                      {"a": jnp.ones(())}, "ab", {"a": jnp.ones((0, 1))}, {"a": "ab"}),
    "product": (*NO_NUMBER,),
    "norm_minus": (*NO_NUMBER,),
    "norm_plus": (*NO_NUMBER,),
    "displacement": (None, {}, {"x": jnp.ones(5)}, {"y": jnp.ones(6)}, "x", {"x": "x"}, 3.0),
    "scale": NO_REAL,
    "time": NO_REAL,
    "tree": ({"x": jnp.array([1.0, jnp.nan])}, jnp.inf, [1.0, float("nan")]),
    "what": NO_TEXT,
    "max_norm": tuple(x for x in (*NOT_NEGATIVE, 0.0) if x is not None),
    "b1": (*NOT_NEGATIVE, 1.0, 2.0),
    "b2": (*NOT_NEGATIVE, 1.0),
    "eps": NOT_NEGATIVE,
    "eps_root": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "second_moment": NO_TREE,
    "step_sizes": (*NO_VECTOR, np.array([1.0, 2.0]), np.array([1.0]), np.array([1.0, -0.5]), np.array([1.0, np.nan])),
    "remainders": (*NO_VECTOR, np.ones(6)),
    "floors": (*NO_VECTOR, np.ones(6)),
    "terms": (*NO_VECTOR, np.ones(6)),
    "theory": NO_COUNT,
    "is_usable": ([True] * 7, "yes", True, np.ones(7), np.ones(6, bool), np.ones(7, int)),
    "excluded": NO_TEXT,
    "fourth_differences": NO_VECTOR,
    "noise": NO_NUMBER,
    "name": ("quadratics", "", None, 3, ["mlp"], True),
    "seed": NO_WHOLE,
    "is_opposite": NO_FLAG,
    "dtype": ("float16", np.float32, jnp.float64, None, 64, "f8", float),
    "sizes": (),
    "comparison": (None, "comparison", 3, {}, [MADE]),
    "is_one_sided": NO_FLAG,
    "tolerance": tuple(x for x in (*NOT_NEGATIVE, 0.0) if x is not None),
    "vector_fields.function": NO_FUNCTION,
    "title": NO_TEXT,
    "figure": (None, "figure", 3, {}),
    "suffix": (*NO_TEXT, "", ".doc", "svgg"),
    "random": (None, 0, "seed", np.random, np.random.RandomState(0)),
    "widths": (None, (2,), (), (2, 0), (2, 1.5), "23", 3, (2, -1), (2, None)),
    "num_tokens": NO_COUNT,
    "width": NO_COUNT,
    "num_layers": NO_COUNT,
    "length": NO_COUNT,
    "start": ("0", "coin", "", 3, True, ["-"], None),
    "pairs": ("some", "", 3, None, ["joint"], "all"),
    "functions": (None, (), square, (None,), ("loss",), (square, 3), 3),
    "batches": ((), (None, None), 3, None),
    # where a name means something else
    "averages.schedule": NO_RANDOM,
    "random_schedules.schedule": NO_RANDOM,
    "schedules.order": ([0, 0], [0], [0.0, 1.0], ["0", "1"], "01", 3, [1, 2], [[0, 1]], [True, False]),
    "schedules.losses": (None, [], [0.7, 1.2], [0.0, 1.0], ["0"], "01", 3, [[0, 1]], [-1, 0], [True], [2**31], [None],
                         np.array([0.5]), [1j]),
    "schedules.reverse.schedule": NO_SCHEDULE,
    "schedules.palindrome.schedule": NO_SCHEDULE,
    "schedules.with_scales.schedule": NO_SCHEDULE,
    "drift.evaluate.coefficients": ((), [TREE] * 3, (TREE, {}), (TREE, {"y": TREE["x"]}, TREE), (1.0, 2.0, 3.0),
                                     "c", 3),
    "losses.minus": NO_FUNCTION,
    "losses.plus": NO_FUNCTION,
    "losses.function": NO_FUNCTION,
    "losses.minus_functions": (None, (), square, (None,), ("loss",), (square, square), 3),
    "losses.plus_functions": (None, (), square, (None,), ("loss",), (square, square), 3),
    "fields.function": NO_FUNCTION,
    "fields.mask": (None, 1, "x", {"x": 1}, {"x": "yes"}, {"x": False}, {}, {"x": np.ones(6)}),
    "micro_batches.function": NO_FUNCTION,
    "micro_batches.batches": (None, (), 3, "ab", (None,), ({},), ({"a": jnp.ones((0, 1))},), ({"a": [1.0]},),
                              ({"a": jnp.ones((2, 1))}, {"a": jnp.ones((2, 2))}), ({"a": jnp.ones(())},),
                              ({"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))},)),
    "losses.of_params.names": ("k", (), ("a", "b"), (3,), 3),
    "losses.Losses.names": ("k", (), ("a", "b"), (3,), 3, None),
    "convergence.first_kink.fourth_differences": NO_VECTOR,
    "optimizers.parse.text": (*NO_TEXT, "", "adm", "adam:b1", "adam:b1=x", "adam:b1=-1", "adam:c=1", "sgd:b1=0",
                              "adam:b1=1.5"),
    "updates.groups.schedule": (*NO_SCHEDULE, JOINT),  # it knows no losses that could lack one
    "updates.reduced.schedule": (*NO_SCHEDULE, JOINT),
    "random_schedules.scales": (None, [1.0], ["1", "2"], [1.0, -1.0], [1.0, np.nan], "11", 3.0, [True, True], (0.0, 1)),
    "random_schedules.per": (0, -1, 2.5, "pair", None, True, [1]),
    "averages.closed_form.schedule": (*NO_RANDOM, random_schedules.RandomSchedule("fixed", "-")),
}  # fmt: skip
WRONG["plus_batches"] = WRONG["minus_batches"]
NUMBERS = ("max_norm", "b1", "b2", "eps", "eps_root", "weight_decay")
WRONG["options"] = (None, [], "b1=0.5", 3, {"b": 0.5}, *({name: one} for name in NUMBERS for one in WRONG[name]))
WRONG["optimizers.build.name"] = WRONG["optimizers.stages.name"] = (*WRONG["name"], "adm")


def value(table, module, function, parameter):
    keys = (f"{module}.{function}.{parameter}", f"{module}.{parameter}", parameter)
    found = [table[key] for key in keys if key in table]
    if not found:
        raise KeyError(f"{module}.{function}({parameter}) is not in the tables")
    return found[0]


def functions():
    """Every public function of the room with its module, and the classes that a user builds."""
    for info in pkgutil.iter_modules([str(ROOM)]):
        module = importlib.import_module(f"numerics.{info.name}")
        if info.name in ("catalogue", "causes", "checks", "contents", "imported", "linearity", "rules", "traces"):
            continue  # no places where data enter; the catalogue is read by `optimizers`, paths by the commands
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            if (inspect.isfunction(inspect.unwrap(item)) and name not in EXEMPT) or name in OBJECTS:
                yield info.name, name, item


def tables(module, name, function):
    """The parameters of a function: a right value and all wrong ones for each."""
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    if any(p.name == "epoch" for p in named):  # its parts are given to it in the call
        named += inspect.signature(Epoch).parameters.values()
    right = {p.name: value(RIGHT, module, name, p.name) for p in named if p.name != "epoch"}
    wrong = {
        p.name: [v for v in value(WRONG, module, name, p.name) if v is not None or p.default is not None] for p in named
    }
    return right, wrong


def calls():
    """Every call with one wrong value, and as many random ones as asked for, with any number of them."""
    every = [(f"{module}.{name}", function, *tables(module, name, function)) for module, name, function in functions()]
    for name, function, right, wrong in every:
        for parameter, values in wrong.items():
            for one in values:
                yield name, function, {parameter: one}, right
    draw = random.Random(0)
    with_parameters = [entry for entry in every if entry[3]]
    for _ in range(NUM_RANDOM):
        name, function, right, wrong = draw.choice(with_parameters)
        chosen = draw.sample(sorted(wrong), draw.randint(1, len(wrong)))
        yield name, function, {parameter: draw.choice(wrong[parameter]) for parameter in chosen}, right


def answer(function, arguments):
    """What a call answers: None if it was accepted; else the kind, the text, and where it was raised."""
    try:
        if "epoch" in inspect.signature(function).parameters:
            parts = {name: arguments.pop(name) for name in inspect.signature(Epoch).parameters}
            arguments = {"epoch": Epoch(**parts), **arguments}  # an epoch that is wrong itself comes last
        function(**arguments)
    except Exception as error:  # noqa: BLE001
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        return type(error).__name__, str(error), "ours" if place.parent == ROOM or place == GRAMMAR else str(place)
    return None


def main():
    for name, function, wrong, right in calls():
        shown = {parameter: repr(one)[:70] for parameter, one in wrong.items()}
        print(json.dumps([name, shown, answer(function, {**right, **wrong})]), flush=True)


if __name__ == "__main__":
    main()
