"""CITATION.cff, CONTRIBUTING.md, CHANGELOG.md and the pre-commit hooks say what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOOKS = [
    (repo, hook)
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repo["hooks"]
]


def test_the_citation_names_this_version_and_the_papers_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= citation.keys()
    assert (str(citation["version"]), citation["license"]) == (project["version"], project["license"])
    paper = citation["preferred-citation"]
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    bibtex = " ".join((ROOT / "README.md").read_text().split("```bibtex")[1].split("```")[0].split())
    for field, value in {"author": authors, "title": paper["title"], "journal": paper["journal"]}.items():
        assert f"{field} = {{{value}}}" in bibtex
    assert f"year = {{{paper['year']}}}" in bibtex


def test_the_changelog_has_a_place_for_what_comes_next():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in code.split()}
    paths = {
        word for word in words if re.fullmatch(r"\.?[a-zA-Z_][\w.-]*(/[\w.-]+)*/?", word) and "/" in word
    }
    paths |= {word for word in words if re.fullmatch(r"\.?\w[\w.-]*\.(py|md|toml|txt|cff)", word)}
    paths = {path for path in paths if not path.startswith(".venv/") and path != "recipe/pages/x.py"}
    assert len(paths) > 30
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    targets = set(re.findall(r"`make ([a-z-]+)", text))
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


DOCUMENTS = [
    ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "launch/README.md",
    *sorted((ROOT / "integrations").rglob("*.md")),
]  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(path):
    """Every target of make, and every path that begins with a folder of the repository."""
    text = path.read_text()
    code = re.findall(r"```\w*\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    targets = {found for part in code for found in re.findall(r"\bmake +([a-z][a-z-]*)", part)}
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    folders = "|".join(p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").is_file())
    named = {
        found
        for part in code
        for found in re.findall(rf"(?<![\w./<-])((?:{folders}|docs|requirements|tests)/[\w./-]*)", part)
    }
    missing = [name for name in sorted(named) if not (ROOT / name.rstrip(".")).exists()]
    assert missing == []


def test_every_hook_is_local_and_needs_no_network():
    assert HOOKS
    for repo, hook in HOOKS:
        assert repo["repo"] == "local" and hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
