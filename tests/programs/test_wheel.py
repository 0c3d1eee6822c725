"""The package holds all that a run needs: built from the sdist, installed alone, used from elsewhere."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.unit.fake_run import make_run
from tests.unit.test_requirements import PROFILES, requirements

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("recipe", "rewards", "advantage", "data_prep", "conf", "launch")
#: What stands in a checkout and is nobody's source.
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".uv", "__pycache__", "*.egg-info", ".*_cache", "runs",
                                  "data", "outputs", "build", "dist")  # fmt: skip
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The sdist, built offline in a copy of the checkout."""
    copy = tmp_path_factory.mktemp("sdist") / "checkout"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    run("-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=copy)
    (found,) = (copy / "dist").glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel, built offline from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, sdist, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a module from the installed wheel, in a folder elsewhere, where no checkout can be imported."""
    place, elsewhere = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("elsewhere")
    run(*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", place, wheel, cwd=elsewhere)
    others = [path for path in sys.path if path.endswith("site-packages")]

    def run_module(*arguments: str | Path) -> str:
        # -S: else the .pth files of an environment make its editable checkout importable; -P: nor the cwd.
        path = os.pathsep.join([str(place), *others])
        return run("-S", "-P", *arguments, cwd=elsewhere, PYTHONPATH=path, PROFILE="cpu")

    assert str(place) in run_module("-c", "import recipe; print(recipe.__file__)")
    return run_module


def test_an_editable_install_is_found_beside_a_namesake(sdist):
    """TransferQueue leaves a folder `recipe` in site-packages, behind which an import hook stands."""
    copy = sdist.parent.parent
    run("-c", "from setuptools import build_meta; build_meta.build_editable('editable')", cwd=copy)
    (built,) = (copy / "editable").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        (path,) = (archive.read(name) for name in archive.namelist() if name.endswith(".pth"))
    assert path.decode().strip() == str(copy)


def files_of_packages() -> set[str]:
    paths = (path for name in PACKAGES for path in (ROOT / name).rglob("*"))
    return {str(p.relative_to(ROOT)) for p in paths if p.is_file() and p.parent.name != "__pycache__"}


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert there == files_of_packages()


def test_the_sdist_holds_what_builds_and_checks_the_project(sdist):
    with tarfile.open(sdist) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of_packages() <= there
    assert {"Makefile", "REQUIRED_VERL.txt", "requirements/cpu.lock", "tests/programs/test_wheel.py"} <= there


def test_plugins_are_declared(installed):
    code = "from importlib.metadata import distribution\n"
    code += "print([e.value for e in distribution('self-emo').entry_points])"
    assert installed("-c", code).strip() == "['recipe.plugin', 'recipe.plugin:register_vllm']"


@pytest.mark.parametrize("profile", [*PROFILES, "dev"])
def test_extras_are_the_profiles(wheel, profile):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert sorted(metadata.get_all("Provides-Extra")) == sorted([*PROFILES, "dev"])
    extra = f'; extra == "{profile}"'
    declared = [line for line in metadata.get_all("Requires-Dist", []) if line.endswith(extra)]
    assert [Requirement(line.removesuffix(extra)) for line in declared] == requirements(profile)


def test_the_default_configuration_composes(installed):
    composed = installed("-m", "recipe.main", "--cfg", "job")
    assert "adv_estimator: self_grpo" in composed and "builtin:tiny" in composed


def test_the_sample_dialogues_are_prepared(installed, tmp_path):
    installed("-m", "data_prep.prepare", "--out-dir", tmp_path, "--corpora", "meld")
    assert all((tmp_path / name).is_file() for name in ("train.parquet", "test.parquet", "data_card.html"))


def test_a_report_is_rendered(installed, tmp_path):
    folder = make_run(tmp_path / "fake")
    installed("-m", "recipe.pages.report", folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Table 12" in page and "<svg" in page and "<style" in page
