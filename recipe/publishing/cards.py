"""How a card is made: front matter from a mapping, text from a template of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from recipe.evaluation.intervals import describe_interval
from recipe.evaluation.results import MEASURE_NAMES, STAGE_NAMES


def render_card(template: str, metadata: Mapping[str, Any], **values: Any) -> str:
    """A card: its metadata as YAML, then Markdown.

    Args:
        template: a file of this folder; what it fills in passes through its filters ``cell`` or ``code``.
        metadata: the front matter, as the hub defines it.
        values: for the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda x, form="%.3f": "–" if x is None else form % x
    environment.filters["interval"] = lambda x: describe_interval(x, "%.3f")
    environment.filters["cell"] = cell
    environment.filters["code"] = lambda text: " ".join(str(text).replace("`", "'").split())
    front = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=110)
    text = environment.get_template(template).render(names=STAGE_NAMES, measures=MEASURE_NAMES, **values)
    return f"---\n{front}---\n\n{text}"


def cell(value: Any) -> str:
    """Any text as a word of Markdown: on one line, no link, no HTML, no column of its own."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
