"""What a run says it was made with."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from recipe.run import versions


def test_versions_are_kept_once_and_again_when_they_change(tmp_path, monkeypatch):
    versions.record(tmp_path)
    versions.record(tmp_path)
    (first,) = json.loads((tmp_path / "versions.json").read_text())
    assert first["torch"] == version("torch") and first["verl"] == version("verl")
    monkeypatch.setattr(versions, "PACKAGES", ("torch", "no-such-package"))
    versions.record(tmp_path)
    found = json.loads((tmp_path / "versions.json").read_text())
    assert len(found) == 2 and found[1]["no-such-package"] == "not installed"


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "versions.json").write_text("")
    with pytest.raises(ValueError, match=r"versions.json: no JSON .*; delete it: only what earlier attempts"):
        versions.record(tmp_path)


def test_no_git_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "_ROOT", tmp_path)
    assert versions.collect()["self-emo (git commit)"] == "unknown: no git checkout"
