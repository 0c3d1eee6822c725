"""`make setup`: which environment is built, updated, kept or refused. What installs is a stand-in here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch import setup_env, stamp
from launch.progress import CommandFailed
from launch.setup_env import SetupError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYPROJECT = """
[project]
name = "x"
description = "one"
[project.entry-points.plugins]
x = "x.plugin"
[tool.setuptools]
packages = ["x"]
[tool.ruff]
line-length = 110
"""


class FakeInstaller:
    """Makes the files of an environment, and notes what it was asked for."""

    calls: list
    fails_at: str | None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        (self.folder / "bin").mkdir(parents=True)
        (self.folder / "bin/python").symlink_to(sys.executable)
        (self.folder / "pyvenv.cfg").touch()
        self._note("create")

    def install(self, lock: Path, cpu: bool, dropped: list[str]) -> None:
        self._note("install", lock.name, cpu, dropped)

    def install_ourselves(self) -> None:
        self._note("ourselves")

    def _note(self, *call) -> None:
        self.calls.append(call)
        if call[0] == self.fails_at:
            raise CommandFailed(f"{call[0]} failed")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A project with two lock files on a machine without a GPU; ``machine.ensure`` builds its environment."""
    (tmp_path / "requirements").mkdir()
    for profile in ("cpu", "gpu"):
        (tmp_path / f"requirements/{profile}.lock").write_text("numpy==1\nruff==1\ntorch==1\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(stamp, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env, "GIB_NEEDED", dict.fromkeys(setup_env.GIB_NEEDED, 0))
    monkeypatch.setattr(setup_env, "Installer", FakeInstaller)
    monkeypatch.setattr(setup_env, "detect_profile", lambda: "cpu")
    monkeypatch.setattr(setup_env, "processes_in", lambda folder: [])
    monkeypatch.setattr(FakeInstaller, "calls", [], raising=False)
    monkeypatch.setattr(FakeInstaller, "fails_at", None, raising=False)

    class Machine:
        root, folder = tmp_path, tmp_path / ".venv"

        def ensure(self, profile: str | None = None, **options) -> list:
            FakeInstaller.calls.clear()
            setup_env.ensure(self.folder, profile, **options)
            return list(FakeInstaller.calls)

        @property
        def built(self) -> dict[str, str]:
            return stamp.read(self.folder)

    return Machine()


BUILD = [("create",), ("install", "cpu.lock", True, []), ("ourselves",)]
BUILD_GPU = [("create",), ("install", "gpu.lock", False, []), ("ourselves",)]


# ---- which profile, which Python ----


def test_a_missing_environment_gets_what_fits_the_machine(machine, monkeypatch):
    assert machine.ensure() == BUILD
    assert machine.ensure() == []
    assert (machine.built["profile"], machine.built["python"]) == ("cpu", HERE)
    monkeypatch.setattr(setup_env, "detect_profile", lambda: "gpu")
    machine.folder = machine.root / ".venv-other"
    assert machine.ensure() == BUILD_GPU


def test_without_a_profile_an_environment_keeps_its_own(machine):
    """`make report` on a login node without a GPU must not delete the environment of the running jobs."""
    assert machine.ensure("gpu") == BUILD_GPU
    assert machine.ensure() == []
    assert machine.built["profile"] == "gpu"


def test_another_profile_is_refused_by_name_and_built_by_force(machine):
    machine.ensure("gpu")
    with pytest.raises(
        SetupError, match=r"for the profile gpu.*anew for the profile cpu: .*PROFILE=cpu.* FORCE=1"
    ):
        machine.ensure("cpu")
    assert machine.built["profile"] == "gpu" and FakeInstaller.calls == []
    assert machine.ensure("cpu", force=True) == BUILD
    assert machine.ensure(force=True) == BUILD  # anew, without another profile


def test_another_python_is_named_and_refused_only_if_it_was_asked_for(machine, capsys):
    machine.ensure()
    old = machine.built | {"python": "3.10"}
    (machine.folder / stamp.STAMP).write_text(json.dumps(old))
    assert machine.ensure() == [] and machine.built == old
    assert "was built with Python 3.10 and is kept" in (out := capsys.readouterr().out)
    assert f"with Python {HERE}: make setup PROFILE=cpu PYTHON={sys.executable} FORCE=1" in out
    with pytest.raises(SetupError, match=r"with Python 3\.10 and is kept.*FORCE=1"):
        machine.ensure(exact_python=True)
    assert machine.ensure(force=True) == BUILD and machine.built["python"] == HERE


def test_an_environment_whose_python_is_gone_is_built_again(machine):
    machine.ensure()
    (machine.folder / "bin/python").unlink()
    (machine.folder / "bin/python").symlink_to("/nowhere/python")
    assert machine.ensure() == BUILD


# ---- what has changed ----


def test_a_changed_lock_is_installed_into_the_environment(machine, capsys):
    machine.ensure()
    (machine.folder / "flash_attn").touch()  # what a user added stays
    (machine.root / "requirements/cpu.lock").write_text("numpy==2\npytest==1\ntorch==1\n")
    assert machine.ensure() == [("install", "cpu.lock", True, ["ruff"]), ("ourselves",)]
    assert "cpu.lock has changed (numpy 1 to 2, pytest none to 1, ruff 1 to none)" in capsys.readouterr().out
    assert (machine.folder / "flash_attn").exists()
    assert machine.ensure() == []


def test_an_update_that_failed_is_made_again(machine, monkeypatch):
    machine.ensure()
    (machine.root / "requirements/cpu.lock").write_text("numpy==2\nruff==1\ntorch==1\n")
    monkeypatch.setattr(FakeInstaller, "fails_at", "ourselves")
    with pytest.raises(CommandFailed):
        machine.ensure()
    monkeypatch.setattr(FakeInstaller, "fails_at", None)
    assert machine.ensure() == [("install", "cpu.lock", True, []), ("ourselves",)]


def test_an_environment_in_use_is_updated_later(machine, monkeypatch, capsys):
    machine.ensure()
    (machine.root / "requirements/cpu.lock").write_text("numpy==2\nruff==1\ntorch==1\n")
    monkeypatch.setattr(setup_env, "processes_in", lambda folder: [4711])
    assert machine.ensure() == []
    assert "(numpy 1 to 2), but processes [4711] are using .venv" in capsys.readouterr().out
    monkeypatch.setattr(setup_env, "processes_in", lambda folder: [])
    assert machine.ensure() != []


def test_an_environment_from_before_this_file_is_updated_where_it_is(machine):
    """Its stamp has another hash, and no copy of the lock."""
    machine.ensure()
    (machine.folder / stamp.LOCK).unlink()
    (machine.folder / stamp.STAMP).write_text(json.dumps({"profile": "cpu", "python": HERE, "lock": "1f"}))
    assert machine.ensure() == [("install", "cpu.lock", True, []), ("ourselves",)]


@pytest.mark.parametrize(
    ("old", "new"),
    [("line-length = 110", "line-length = 99"), ('"one"', '"two"'), ("[tool.ruff]", "# why\n[tool.pytest]")],
)
def test_prose_and_settings_of_tools_do_not_count(machine, old, new):
    machine.ensure()
    (machine.root / "pyproject.toml").write_text(PYPROJECT.replace(old, new))
    assert machine.ensure() == []


@pytest.mark.parametrize(
    ("old", "new"), [("x.plugin", "x.other"), ('["x"]', '["x", "y"]'), ('name = "x"', 'name = "y"')]
)
def test_what_is_installed_of_the_project_counts(machine, old, new, capsys):
    machine.ensure()
    (machine.root / "pyproject.toml").write_text(PYPROJECT.replace(old, new))
    assert ("ourselves",) in machine.ensure()
    assert "pyproject.toml has changed" in capsys.readouterr().out


# ---- a build that does not come to its end ----


@pytest.mark.parametrize("step", ["create", "install", "ourselves"])
def test_what_was_there_is_there_again_after_a_failed_build(machine, monkeypatch, step):
    machine.ensure("gpu")
    monkeypatch.setattr(FakeInstaller, "fails_at", step)
    with pytest.raises(CommandFailed):
        machine.ensure("cpu", force=True)
    assert machine.built["profile"] == "gpu"
    assert [path.name for path in machine.root.glob(".venv*")] == [".venv"]


def test_what_was_there_is_there_again_after_a_killed_build(machine):
    machine.ensure("gpu")
    machine.folder.rename(machine.root / ".venv.old")  # as the kill left it
    FakeInstaller(machine.folder).create()
    assert machine.ensure() == []
    assert machine.built["profile"] == "gpu"


def test_a_first_build_that_failed_is_started_again(machine, monkeypatch):
    monkeypatch.setattr(FakeInstaller, "fails_at", "install")
    with pytest.raises(CommandFailed):
        machine.ensure()
    monkeypatch.setattr(FakeInstaller, "fails_at", None)
    assert machine.ensure() == BUILD


def test_a_folder_that_is_no_environment_is_not_deleted(machine):
    machine.folder.mkdir()
    (machine.folder / "thesis.tex").touch()
    with pytest.raises(SetupError, match="is no Python environment: move it away"):
        machine.ensure()
    assert (machine.folder / "thesis.tex").exists()


def test_the_disk_is_checked_before_anything_is_touched(machine, monkeypatch):
    machine.ensure("gpu")
    monkeypatch.setattr(setup_env, "GIB_NEEDED", {"cpu": 10**9})
    with pytest.raises(SetupError, match=r"1000000000 GiB of disk are needed for \.venv"):
        machine.ensure("cpu", force=True)
    assert machine.built["profile"] == "gpu"


# ---- the rest ----


def test_processes_that_use_an_environment_are_found(tmp_path):
    library = tmp_path / "lib/python/x.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"x" * 4096)
    code = """
import mmap, sys
file = open(sys.argv[1], "rb")
held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print(flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(library)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        user.stdout.readline()
        assert setup_env.processes_in(tmp_path) == [user.pid]
        user.stdin.close()
    assert setup_env.processes_in(tmp_path) == []


def test_a_python_that_is_not_fit_leaves_it_to_the_environment_s_own(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(setup_env.os, "execv", lambda *call: started.append(call))
    folder = tmp_path / "venv"
    monkeypatch.setattr(sys, "argv", ["setup_env.py", "--folder", str(folder)])
    monkeypatch.setattr(setup_env, "TOO_NEW", (3, 11))
    with pytest.raises(SystemExit, match=r"run this with Python 3\.11 or 3\.12"):
        setup_env.main()
    monkeypatch.setattr(FakeInstaller, "calls", [], raising=False)
    monkeypatch.setattr(FakeInstaller, "fails_at", None, raising=False)
    FakeInstaller(folder).create()
    (folder / stamp.STAMP).write_text('{"profile": "cpu"}')
    monkeypatch.setattr(setup_env, "ensure", lambda *call: None)  # execv would not come back
    setup_env.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--exact-python"])
    with pytest.raises(SystemExit, match=r"make setup PYTHON=python3\.11"):
        setup_env.main()
    python = folder / "bin/python"
    assert started == [(python, [str(python), "setup_env.py", "--folder", str(folder)])]


def test_it_runs_as_a_file_without_anything_installed(root):
    done = subprocess.run(
        [sys.executable, "-IS", str(root / "launch/setup_env.py"), "--profile", "tpu"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "invalid choice: 'tpu'" in done.stderr
