"""How every page is made: from a template of this folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from recipe.evaluation.intervals import describe_interval
from recipe.evaluation.results import MEASURE_NAMES, STAGE_NAMES


def render_page(template: str, **values: Any) -> str:
    """A page from a template of this folder; everything that is filled in is escaped."""
    page = _environment().get_template(template)
    return page.render(names=STAGE_NAMES, measures=MEASURE_NAMES, **values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda x, form="%.3f": "–" if x is None else form % x
    environment.filters["weights"] = lambda w: ", ".join(f"{label} {x:.2f}" for label, x in w.items())
    environment.filters["interval"] = describe_interval
    return environment
