"""The documents: no link leads nowhere, on a forge or on the site (built in `tests/programs`)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from launch.site import PAGES, rewritten

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in PAGES)])
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """What the headings of a document are called in links."""
    heads = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def broken_links(path: Path) -> list[str]:
    """The links of a document to files or headings that are not there."""
    broken = []
    for target in _LINK.findall(prose(path)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        outside = name and not there.is_relative_to(ROOT)
        if outside or not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_leads_nowhere(path):
    assert broken_links(path) == []


def test_broken_links_are_seen(tmp_path):
    page = ROOT / "docs/index.md"
    text = f"# One two\n[a]({page}) [b](gone.md) [c](#one-two) [d](#three) [e](/etc/hosts)\n"
    copy = tmp_path / "index.md"
    copy.write_text(f"{text}```\n[f](g)\n```\n")
    assert broken_links(copy) == ["gone.md", "#three", "/etc/hosts"]


def test_every_document_is_on_the_site():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [
        page if isinstance(page, str) else next(iter(page.values()))
        for part in nav
        for page in next(iter(part.values()))
    ]
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(docs | {f"repository/{name}" for name in PAGES})
    named = {path.stem for path in (ROOT / "docs/start").glob("*.md")}
    assert named == {"laptop", "one-gpu", "eight-gpus", "cluster", "own-corpus", "own-model", "report"}


@pytest.mark.parametrize(
    ("uri", "link", "led"),
    [
        ("data.md", "[c](../CONTRIBUTING.md#tests)", "[c](repository/CONTRIBUTING.md#tests)"),
        ("start/laptop.md", "[d](../data.md)", "[d](../data.md)"),
        ("repository/README.md", "[d](docs/data.md)", "[d](../data.md)"),
        ("repository/README.md", "![p](docs/p.svg)", "![p](../p.svg)"),
        ("repository/launch/README.md", "[r](../README.md)", "[r](../README.md)"),
        ("annotate.md", "[`parse.py`](../rewards/parse.py)", "`parse.py`"),  # no page: only the words
        ("data.md", "[a](https://a.b/c) [d](#here)", "[a](https://a.b/c) [d](#here)"),
    ],
)
def test_links_of_the_site(uri, link, led):
    known = {"data.md", "p.svg", "start/laptop.md", "repository/README.md", "repository/CONTRIBUTING.md"}
    assert rewritten(f"a {link} b", uri, known) == f"a {led} b"
