"""Commands that write tell of a full or closed disk in one line, with the remedy."""

from __future__ import annotations

import errno
import importlib
import os
from pathlib import Path

import pytest

from data_prep import disk


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("recipe.ablate", "commands", ["SEEDS=1"]),
        ("recipe.evaluation.judge", "run_folder", ["mine", "cold", "retrained"]),
        ("recipe.pages.compare", "compare_runs", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_commands_say_in_a_line_what_a_disk_refuses(monkeypatch, capsys, module, function, arguments, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number), "/runs/x")

    command = importlib.import_module(module)
    monkeypatch.setattr(command, "run_folder", Path, raising=False)
    monkeypatch.setattr(command, function, refuse)
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    assert command.main() == 1
    assert capsys.readouterr().err == f"error: /runs/x: {os.strerror(number)}; {disk._REMEDIES[number]}\n"
