"""Hypothesis profiles, and one examination of all claims that the tests share."""

import os

import pytest
from hypothesis import Phase, settings

from derivation.catalogue import CATALOGUE
from derivation.claim import Report, examine

settings.register_profile("dev", deadline=None)
# Without shrinking: a bug in the engine fails most properties at once, and a run must still end.
settings.register_profile("ci", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.register_profile("nightly", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def reports() -> dict[str, Report]:
    """Every claim of the catalogue, examined once."""
    return {entry.id: examine(entry) for entry in CATALOGUE}
