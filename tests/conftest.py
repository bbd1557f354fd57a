"""Hypothesis profiles, JAX as the numerics are tested, and one examination of all claims that the tests share."""

import os
from pathlib import Path

from tests.support import compiling, typechecking

# JAX reads the environment as it is imported, and the processes that tests start inherit it.
os.environ.update(compiling.environment())

import jax
import pytest
from hypothesis import Phase, settings
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
# Every annotation of a shape is checked at every call; so this stands before anything imports these packages. The
# modules without arrays are left out: they are called so often that their checks would take a fifth of the time.
NUMERICS = {path.stem for path in (Path(__file__).parents[1] / "numerics").glob("*.py")} - {"checks", "contents"}
MODULES = [
    *(f"numerics.{name}" for name in sorted(NUMERICS)),
    "experiments.data.tokens",
    *(f"experiments.model.{name}" for name in ("decoding", "transformer", "objectives", "pretrained")),
]
install_import_hook(MODULES, f"{typechecking.__name__}.checked")

from derivation.catalogue import CATALOGUE  # noqa: E402
from derivation.claim import Report, examine  # noqa: E402

settings.register_profile("dev", deadline=None)
# Without shrinking: a bug in the engine fails most properties at once, and a run must still end.
settings.register_profile("ci", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.register_profile("nightly", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # once, not in every worker
        compiling.make_room()


@pytest.fixture(scope="session")
def reports() -> dict[str, Report]:
    """Every claim of the catalogue, examined once."""
    return {entry.id: examine(entry) for entry in CATALOGUE}


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_leave_room():
    """They are memory maps, of which a process may have 65,530 on Linux: a module of tests finds half of them free."""
    yield
    if compiling.num_memory_maps() > 65_530 // 2:
        jax.clear_caches()
