"""The reckoning of memory against what the compiler says of the compiled step."""

from dataclasses import replace

import jax
import pytest

from experiments import arms, config, presets
from experiments.commands import run
from experiments.data import tokens
from experiments.model import parameters, pretrained, published, random_model
from experiments.training import batches, checkpoint, inputs, memory, train_step


class _CompiledError(Exception):
    """Ends a step before it runs."""


def analysed(c, architecture, monkeypatch):
    """What XLA says of the step of a configuration: of the very program, which is not run."""
    programs = []
    real = jax.jit

    def jit(function, **more):
        made = real(function, **more)
        if function.__name__ != "step":
            return made

        def compile_only(*arguments):
            programs.append(made.lower(*arguments).compile().memory_analysis())
            raise _CompiledError

        return compile_only

    params = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), parameters.shapes(architecture))
    state = train_step.initial_state(c.arm, c.rule, params, params if c.arm.optimizer == "frozen-adamw" else None)
    batch = tokens.batch([tokens.Encoded([1], [2])] * c.num_pairs, shape=(c.max_tokens, c.max_tokens))
    step = train_step.make_step(c.arm, c.rule, c.learning_rate, inputs.objective_of(c, architecture, None))
    with monkeypatch.context() as patch:
        patch.setattr(train_step.jax, "jit", jit)
        with pytest.raises(_CompiledError):
            step(state, params, batches.PairBatch(batch, batch), True)
    return programs[0]


def in_all(program):
    return (
        program.argument_size_in_bytes
        + program.output_size_in_bytes
        - program.alias_size_in_bytes
        + program.temp_size_in_bytes
    )


def test_the_tiny_preset_needs_what_is_reckoned(monkeypatch):
    """Where activations are nearly all of it."""
    c = presets.config("tiny")
    needs = memory.allocations(c, random_model.ARCHITECTURE)
    total = sum(need.num_bytes for need in needs)
    assert total / 2 < in_all(analysed(c, random_model.ARCHITECTURE, monkeypatch)) < total * 2


# Wide enough that the parameters are nearly all of it.
WIDE = replace(random_model.ARCHITECTURE, vocabulary=8192, width=512, mlp_width=2048, head_dim=128)


@pytest.mark.parametrize(
    ("text", "num_given"),
    [("sequential", 4), ("accumulated:optimizer=sgd", 2), ("accumulated:optimizer=frozen-adamw", 4)],
)
def test_arrays_of_the_parameters_size_are_counted(text, num_given, monkeypatch):
    """What is handed over is exactly parameters, start and moments; in all it is no more than is reckoned."""
    c = replace(presets.config("tiny", arms.parse(text)), num_pairs=1, max_tokens=16)
    one = 4 * parameters.count(WIDE)
    program = analysed(c, WIDE, monkeypatch)
    assert program.argument_size_in_bytes == pytest.approx(num_given * one, rel=1e-3)
    counted = memory.numbers(c, WIDE)
    assert sum(counted[what] for what in list(counted)[:3]) == num_given * parameters.count(WIDE)
    total = sum(need.num_bytes for need in memory.allocations(c, WIDE))
    assert total / 2 < in_all(program) <= total


@pytest.mark.parametrize("optimizer", ["sgd", "heavy-ball", "adamw", "frozen-adamw"])
def test_checkpoints_have_the_size_that_is_reckoned(optimizer, tmp_path):
    architecture = replace(random_model.ARCHITECTURE, vocabulary=2048)
    c = replace(presets.config("tiny", arms.parse(f"accumulated:optimizer={optimizer}")), num_updates=1)
    params = parameters.init(architecture, jax.random.key(0))
    checkpoint.save(
        tmp_path, 1, train_step.initial_state(c.arm, c.rule, params, params if "frozen" in optimizer else None), {}
    )
    found = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    reckoned = memory.disk([(c, architecture)])
    assert found == pytest.approx(reckoned.left, rel=0.01)
    assert reckoned.most == reckoned.left


def test_checkpoints_of_several_runs_are_counted():
    """Nine runs of SmolLM2 under AdamW: eight have one each as the last one is made, which has two."""
    one = 12 * 134_515_008
    c = presets.config("smollm2")
    runs = [(c, published.ARCHITECTURES["smollm2"])] * 9
    assert memory.disk(runs) == (10 * one, 9 * one)
    several = [(replace(c, keep=3), published.ARCHITECTURES["smollm2"])] * 2  # 10, 20 and 24; the best is one of them
    assert memory.disk(several) == (6 * one, 6 * one)
    assert memory.disk([(replace(c, keep=0), published.ARCHITECTURES["smollm2"])] * 9) == (2 * one, 0)
    sizes = {0: "0 B", 999: "999 B", 999_499: "999 kB", 999_500: "1 MB", 999_600: "1 MB", 1_614_180_096: "1.61 GB",
             999.6e9: "1 TB", 2e12: "2 TB"}  # fmt: skip
    assert {number: memory.size(number) for number in sizes} == sizes


def test_a_device_keeps_a_part_of_its_memory_for_its_runtime():
    """8 % of 80 GB leave 73.6."""
    assert memory.is_enough(80, 73_000_000_000)
    assert not memory.is_enough(80, 74_000_000_000)
    assert memory.DEVICES_GB[0] == 80


def test_devices_share_what_is_split_among_them():
    base = presets.config("llama3-8b")
    architecture = published.ARCHITECTURES["llama3-8b"]
    assert parameters.count(architecture) == 8_030_261_248  # as its model card says
    by_what = {need.purpose: need.num_bytes for need in memory.allocations(base, architecture)}
    alone = {
        need.purpose: need.num_bytes
        for need in memory.allocations(replace(base, mesh=config.MeshShape()), architecture)
    }
    for what in memory.numbers(base, architecture):
        assert by_what[what] * 8 == alone[what]
    assert by_what["parameters"] == 4 * 8_030_261_248 // 8
    kept = "activations kept for the backward pass"
    assert by_what[kept] * 8 == alone[kept]


@pytest.mark.parametrize("preset", presets.BY_NAME)
def test_a_dry_run_loads_nothing_and_fits_the_terminal(preset, capfd, monkeypatch, tmp_path):
    def loaded(*_, **__):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(inputs, "load", loaded)
    monkeypatch.setattr(pretrained, "load", loaded)
    monkeypatch.setattr(parameters, "init", loaded)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    assert run.main(["--preset", preset, "--dry-run", "--arm", "accumulated-plus-term", "--arm", "sequential"]) == 0
    said = capfd.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert f"{parameters.count(published.ARCHITECTURES[preset]):,}" in said
    assert not list(tmp_path.iterdir())


def test_a_dry_run_is_of_the_model_that_is_named(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--preset", "smollm2", "--model", "tiny", "--dry-run"]) == 0
    assert f"{parameters.count(random_model.ARCHITECTURE):,} parameters" in capfd.readouterr().out.replace("\n", " ")
    with pytest.raises(SystemExit) as stop:
        run.main(["--preset", "smollm2", "--model", "nowhere", "--dry-run"])
    assert stop.value.code == 2
    assert "nowhere must be a model's folder" in capfd.readouterr().err


def test_words_need_what_their_largest_step_needs():
    """Shares are smaller than halves; k reads both halves at once. Several letters of a side need one more tree."""

    def needs(word):
        c = presets.config("tiny", arms.parse(word))
        return {need.purpose: need.num_bytes for need in memory.allocations(c, random_model.ARCHITECTURE)}

    plain, shares, divergence = map(needs, ("+-", "+-+-", "+-k"))
    kept, sums = "activations kept for the backward pass", "gradient, and the sum of gradients for g+.g-"
    assert (2 * shares[kept], divergence[kept]) == (plain[kept], 2 * plain[kept])
    assert (2 * shares[sums], divergence[sums]) == (3 * plain[sums], 2 * plain[sums])
