"""Optimizers by import path: the text, the form of the rule, its steps, and every refusal."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from numerics import compare, imported, problems, rules, schedules, updates
from numerics.epoch import Epoch
from tests.support.rounding import assert_equal_to_round_off, flat

PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")

OWN = """
import jax
import jax.numpy as jnp
import numpy as np
import optax

def _scaled(factor):
    return optax.stateless(lambda updates, params: jax.tree.map(lambda g: -factor * g, updates))

def hidden(learning_rate):
    factor = jnp.sin(learning_rate)  # under a name that Optax does not give a rate
    return _scaled(factor)

def careful(learning_rate, *, strength=1.0):
    if learning_rate < 0 or strength > 2:
        raise ValueError("learning_rate must not be negative, strength at most 2;\\nsee above")
    return optax.chain(optax.scale(strength), optax.sgd(learning_rate))

def any_options(learning_rate, **options):
    return optax.sgd(learning_rate, **options)

def holding(learning_rate):
    weights = jnp.linspace(1.0, 2.0, 400 * 300).reshape(400, 300)
    return optax.chain(_scaled(weights), optax.scale(-learning_rate))

def nothing(learning_rate):
    return None

def needs(learning_rate, first, second):
    return optax.sgd(learning_rate)

def positional(rate, /):
    return optax.sgd(rate)

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with modules of a user's, which is the current one."""
    (tmp_path / "own_rules.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "own_script.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)


def build(text, params=PARAMS):
    return imported.build(imported.parse(text), params)


# The text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "options", "printed"),
    [
        ("optax.lion", "optax.lion", {}, "optax.lion"),
        ("optax.lion:", "optax.lion", {}, "optax.lion"),
        ("optax.contrib:muon", "optax.contrib.muon", {}, "optax.contrib.muon"),
        ("rules:mine", "rules.mine", {}, "rules.mine"),
        ("a.b:mine:x=1", "a.b.mine", {"x": 1}, "a.b.mine:x=1"),
        ("a.b.mine: y = 0.50 , x=-2 ;", "a.b.mine", {"x": -2, "y": 0.5}, "a.b.mine:x=-2;y=0.5"),
        ("a.b:e=1e-8;f=5.;n=.5e+2", "a.b", {"e": 1e-8, "f": 5.0, "n": 50.0}, "a.b:e=1e-08;f=5.0;n=50.0"),
        ("a.b:x=true;y=False;z=None", "a.b", {"x": True, "y": False, "z": None}, "a.b:x=true;y=false;z=none"),
        ("a.b:kind=spectral;d=bfloat16", "a.b", {"d": "bfloat16", "kind": "spectral"}, "a.b:d=bfloat16;kind=spectral"),
    ],
)
def test_a_text_is_read_and_printed_so_that_it_reads_back(text, path, options, printed):
    spec = imported.parse(text)
    assert spec.path == path
    assert dict(spec.options) == options
    assert [type(value) for _, value in spec.options] == [type(value) for value in options.values()]
    assert str(spec) == printed
    assert imported.parse(printed) == spec
    assert imported.is_path(text)
    assert imported.is_path(printed)


@pytest.mark.parametrize(
    "text",
    ["adamw", "adamw:b1=0.9", "sgd:", "adm:eps=1", "heavy-ball:momentum", "frozen-adamw:b1", "x", "", ":", "a:b=c"],
)
def test_short_names_are_no_paths(text):
    assert not imported.is_path(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optax..lion", "must be an import path, such as optax.lion"),
        (".rules:mine", "must be an import path"),
        ("optax.lion.", "must be an import path"),
        ("my-package.mine", "must be an import path"),
        ("a:b:c:d=1", "NAME=VALUE"),
        ("optax", "must be an import path"),
        ("optax.lion:b1=", "finite numbers, true, false, none or words as values; got b1="),
        ("optax.lion:b1=0.9;b1=0.8", "each option once; got b1 twice"),
        ("optax.lion:b1=0.9;b2", "NAME=VALUE behind its path; got 'b2'"),
        ("optax.lion:b1=0.9;b-2=1", "NAME=VALUE behind its path; got 'b-2=1'"),
        ("optax.lion:learning_rate=0.1", "no learning_rate among its options"),
        ("optax.lion:b1=nan", "finite numbers"),
        ("optax.lion:b1=1e999", "finite numbers"),
        (f"optax.lion:b1={'9' * 5000}", "finite numbers"),
        ("optax.lion:b1=1/2", "finite numbers"),
        ("optax.lion:b1=\u0663", "finite numbers"),
    ],
)
def test_a_text_that_is_wrong_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=r"^optimizer must ") as refused:
        imported.parse(text)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 200


# The rule -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_function"),
    [
        ("optax.lion", False),
        ("optax.fromage", True),
        ("own_rules:hidden", True),
        ("own_rules:careful:strength=0.5", False),
        ("own_rules:any_options:momentum=0.5", False),
    ],
)
@pytest.mark.usefixtures("own")
def test_a_rule_is_at_rate_one_only_where_it_is_linear_in_its_rate(text, is_function):
    rule = build(text)
    assert rules.is_function_of_rate(rule) == is_function
    assert build(text) is rule
    found = []

    @jax.jit
    def traced(params):
        found.append(build(text, {"w": params}))
        rule = rules.at_rate(found[-1], jnp.asarray(0.5))
        return rule.update({"w": params}, rule.init({"w": params}), {"w": params})[0]

    traced(jnp.ones(3))
    assert rules.is_function_of_rate(found[-1]) == is_function
    # Nothing of the trace is left in the rule.
    rule = rules.at_rate(found[-1], 0.5)
    update, _ = rule.update({"w": jnp.ones(3)}, rule.init({"w": jnp.ones(3)}), {"w": jnp.ones(3)})
    assert np.isfinite(flat(update)).all()


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("optax.adam:b1=0.5;eps=0.1", lambda rate: optax.adam(rate, b1=0.5, eps=0.1)),
        (
            "optax.contrib.muon:ns_steps=3;nesterov=false;preconditioning=spectral",
            lambda rate: optax.contrib.muon(rate, ns_steps=3, nesterov=False, preconditioning="spectral"),
        ),
        ("optax.fromage:min_norm=0.01", lambda rate: optax.fromage(rate, min_norm=0.01)),
    ],
)
def test_a_rule_is_stepped_as_optax_steps_it(text, make):
    """A training loop with Optax alone, at the rate itself."""
    problem = problems.make("softmax", 1, seed=1)
    word = schedules.interleaved(1, first="-")
    rule = build(text, problem.params)
    found = updates.sequential(Epoch(problem.losses, word, rule, problem.params), step_size=0.1).displacement
    optimizer = make(0.1)
    params, state = problem.params, optimizer.init(problem.params)
    for number in word.losses:
        update, state = optimizer.update(problem.losses.gradient(params, jnp.asarray(number)), state, params)
        params = optax.apply_updates(params, update)
    assert_equal_to_round_off(found, jax.tree.map(jnp.subtract, params, problem.params), scale=10.0)


@pytest.mark.usefixtures("own")
def test_parameters_that_are_many_are_not_needed_to_decide():
    shapes = {"w": jax.ShapeDtypeStruct((400_000, 400_000), jnp.float32)}
    assert not rules.is_function_of_rate(build("optax.lion", shapes))
    assert rules.is_function_of_rate(build("optax.fromage", shapes))
    held = {"w": jax.ShapeDtypeStruct((400, 300), jnp.float64)}  # a rule with arrays of this shape takes no other
    assert not rules.is_function_of_rate(build("own_rules:holding", held))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optax.lyon", "optimizer must name a function of optax; got 'lyon'. Did you mean lion?"),
        ("own_rules:number", "optimizer must name a function of own_rules; got 'number'."),
        ("optax.contribb.muon", "got optax.contribb: there is no such module. Did you mean optax.contrib?"),
        ("own_rulez:hidden", "got own_rulez: there is no such module. Did you mean own_rules?"),
        ("own_rules.part.mine", "got own_rules.part: there is no such module."),
        ("own_broken:mine", "got own_broken: ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("own_script:mine", "got own_script: SystemExit: 3"),
        ("own_rules:careful:strenght=1", "must have options among strength; got 'strenght'. Did you mean strength?"),
        (
            "own_rules:needs:first=1",
            "own_rules.needs must have a value for second; got none. Write own_rules.needs:sec",
        ),
        ("own_rules:positional", "own_rules.positional must take learning_rate by keyword; got parameters (none)."),
        (
            "optax.polyak_sgd",
            "optax.polyak_sgd must take learning_rate by keyword; got parameters max_learning_rate, s",
        ),
        ("math.hypot", "math.hypot must take learning_rate by keyword; got a function without a signature."),
        (
            "own_rules:careful:strength=3",
            "must make a rule of these options; got ValueError: learning_rate must not be",
        ),
        ("own_rules:any_options:momentun=1", "must make a rule of these options; got TypeError: "),
        ("own_rules:nothing", "own_rules.nothing must return an optax.GradientTransformation; got None."),
        ("optax.lbfgs", "optax.lbfgs must make its update from a gradient, its state and the parameters alone; got "),
        ("optax.contrib.sophia", "which needs the loss itself"),
        ("optax.contrib.muon:preconditioning=none", "fails on them: ValueError: Unknown preconditioning None"),
    ],
)
@pytest.mark.usefixtures("own")
def test_a_rule_that_cannot_be_made_is_refused_in_one_line(text, message):
    with pytest.raises((ValueError, TypeError)) as refused:
        build(text)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


# The command and the page ---------------------------------------------------------------------------------------------


def test_the_command_takes_paths_beside_names(capsys):
    printed = []
    for optimizer in ("heavy-ball:momentum=0.5", "optax:sgd:momentum=0.5"):
        assert compare.main(["--problem", "quadratic", "--pairs", "1", "--optimizer", optimizer]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0].replace("heavy-ball:", "optax.sgd:") == printed[1]


def test_the_page_s_rule_goes_through_the_command(tmp_path, monkeypatch, capsys):
    code = re.search(r"<!-- rule: tests run it -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    command = re.search(r"<!-- command: tests run it -->\n```console\npython -m numerics.compare (.*?)\n```", PAGE)
    assert code is not None
    assert command is not None
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "rules.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    assert compare.main(command[1].split()) == 0
    assert "mypackage.rules.mine:decay=0.5" in capsys.readouterr().out
