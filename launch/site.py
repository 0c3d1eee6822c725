"""Hooks of the documentation site (mkdocs.yml): pages from outside of docs/, and links that lead out of it.

On a forge a link may lead to any file of the repository. On the site it leads to a page, or, where there is
none, only its words are left, so that ``mkdocs build --strict`` can hold every link to what is there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Pages that lie beside docs/; on the site they are below `_BESIDE`.
PAGES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "launch/README.md", "integrations/trl/README.md",
    "integrations/lm_eval/README.md",
)  # fmt: skip
_BESIDE = "repository"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^()\s]+)\)")
_IMAGE = re.compile(r"(!\[[^\]]*\]\()([^()\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add `PAGES` to the site; MkDocs calls it."""
    from mkdocs.structure.files import File

    for name in PAGES:
        files.append(File.generated(config, f"{_BESIDE}/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let the links of a page lead to pages of the site; MkDocs calls it."""
    return rewritten(markdown, page.file.src_uri, files.src_uris)


def rewritten(markdown: str, uri: str, known: Collection[str]) -> str:
    """A page whose links are the site's.

    Args:
        markdown: with links as they are in the repository.
        uri: of the page on the site.
        known: of all pages and pictures there.
    """
    folder = posixpath.dirname(_path(uri))

    def place(target: str) -> str | None:
        """The same target from this page of the site, None where it is no part of it."""
        name, mark, anchor = target.partition("#")
        if not name or ":" in name:
            return target
        there = _uri(posixpath.normpath(posixpath.join(folder, name)))
        return (
            posixpath.relpath(there, posixpath.dirname(uri) or ".") + mark + anchor
            if there in known
            else None
        )

    def link(found: re.Match[str]) -> str:
        led = place(found[2])
        return f"[{found[1]}]({led})" if led else found[1]

    markdown = _LINK.sub(link, markdown)
    return _IMAGE.sub(lambda found: f"{found[1]}{place(found[2]) or found[2]})", markdown)


def _path(uri: str) -> str:
    """Where a page of the site lies in the repository."""
    return uri.removeprefix(f"{_BESIDE}/") if uri.startswith(f"{_BESIDE}/") else f"docs/{uri}"


def _uri(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{_BESIDE}/{path}"
