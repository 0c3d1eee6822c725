"""`make test-unit PYTHONS=...` and `make lock`: what is done, and what is said where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from launch import lock, other_pythons, stamp
from launch.progress import CommandFailed


@pytest.fixture
def tested(tmp_path, monkeypatch):
    """Which environments ran the tests; that of 3.12 fails, and there is none for 3.13."""

    def environment(version, profile):
        if version == "3.13":
            raise CommandFailed("uv ... failed:\n    no wheels for cp313")
        return tmp_path / version

    def run(command, **_):
        assert {"tests/unit", "tests/programs"} <= set(command)
        ran.append(command[0].split("/")[-3])
        return SimpleNamespace(returncode=int(ran[-1] == "3.12"))

    ran: list[str] = []
    monkeypatch.setattr(stamp, "read", lambda folder: {"python": "3.11", "profile": "cpu"})
    monkeypatch.setattr(other_pythons, "environment", environment)
    monkeypatch.setattr(other_pythons, "subprocess", SimpleNamespace(run=run))
    return ran


def test_the_python_of_the_environment_is_not_run_twice(tested):
    assert other_pythons.main(["3.11"]) == 0 and tested == []


def test_a_python_that_is_not_to_be_had_is_named_in_one_line(tested, capsys):
    assert other_pythons.main(["3.11", "3.13"]) == 0 and tested == []
    assert capsys.readouterr().out == "Python 3.13 is left out: no wheels for cp313\n"


def test_tests_that_fail_with_another_python_fail(tested, capsys):
    assert other_pythons.main(["3.13", "3.12", "3.10"]) == 1 and tested == ["3.12", "3.10"]
    assert "the tests fail with Python 3.12" in capsys.readouterr().out


@pytest.fixture
def resolved(tmp_path, monkeypatch):
    """A project whose cpu.lock would be resolved to other versions."""
    (tmp_path / "requirements").mkdir()
    path = tmp_path / "requirements/cpu.lock"
    path.write_text("numpy==1\ntorch==1\n")
    monkeypatch.setattr(stamp, "ROOT", tmp_path)
    monkeypatch.setattr(lock, "resolve", lambda profile, into: into.write_text("numpy==2\ntorch==1\n"))
    return path


def test_a_lock_is_resolved_again_and_the_difference_shown(resolved, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lock.py", "cpu", "--check"])
    assert lock.main() == 1 and resolved.read_text() == "numpy==1\ntorch==1\n"
    assert capsys.readouterr().out == "-numpy==1\n+numpy==2\n"
    monkeypatch.setattr(sys, "argv", ["lock.py", "cpu"])
    assert lock.main() == 0 and resolved.read_text() == "numpy==2\ntorch==1\n"
    monkeypatch.setattr(sys, "argv", ["lock.py", "cpu", "--check"])
    capsys.readouterr()
    assert lock.main() == 0 and capsys.readouterr().out == "cpu.lock is what its .in resolves to\n"


def test_a_lock_that_cannot_be_resolved_is_left_alone(resolved, monkeypatch):
    def fail(profile, into):
        raise CommandFailed("no solution found")

    monkeypatch.setattr(lock, "resolve", fail)
    monkeypatch.setattr(sys, "argv", ["lock.py", "cpu"])
    with pytest.raises(SystemExit, match="error: no solution found"):
        lock.main()
    assert resolved.read_text() == "numpy==1\ntorch==1\n"


@pytest.mark.parametrize("name", ["lock", "other_pythons"])
def test_they_run_as_files_without_anything_installed(root, name):
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import runpy; runpy.run_path({str(root / f'launch/{name}.py')!r})"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
