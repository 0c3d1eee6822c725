"""The pre-commit hooks are commands that are there, pass on this tree, and see a broken file."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOOKS = {
    hook["id"]: hook
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repo["hooks"]
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hooks_command_is_there_and_passes(name):
    hook = HOOKS[name]
    command = shlex.split(hook["entry"])
    command[0] = shutil.which(Path(command[0]).name, path=Path(sys.executable).parent)
    assert command[0], f"{hook['entry']}: not in this environment; make setup installs it"
    if name == "mypy":
        command.append("--version")  # make lint has run it, and it takes longest
    elif "files" in hook:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        files = [file for file in listed.stdout.splitlines() if re.search(hook["files"], file)]
        assert files
        command += files
    elif hook.get("pass_filenames", True):
        command.append(".")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "broken"), [("yaml", "a: [1"), ("toml", "a = ")])
def test_a_broken_file_is_seen(name, broken, tmp_path):
    (tmp_path / "file").write_text(broken)
    command = [sys.executable, *shlex.split(HOOKS[name]["entry"])[1:], tmp_path / "file"]
    assert subprocess.run(command, capture_output=True).returncode != 0
