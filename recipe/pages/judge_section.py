"""What the report shows of `make judge`: shares, and pairs with the judges' reasoning as in Tables 8-11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recipe.pages.rollout_browser import split_answer
from recipe.run.files import read_json, verdicts_name

#: So many pairs of a comparison go onto the page, evenly spread over all that were judged.
EXAMPLES = 10
_REMEDY = "make judge writes it again, from the answers on disk"


def judged(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The comparisons of a run, and what is wrong with those that cannot be shown.

    Returns:
        Content of each ``judge/*/summary.json``, with ``judged_pairs``, how many pairs have a verdict, and
        ``examples`` of them: what stands in ``pairs.json``, answers as `split_answer`, and ``verdicts``, a
        line for every aspect and judge.
    """
    shown, problems = [], []
    for path in sorted(folder.glob("judge/*/summary.json")):
        try:
            summary = read_json(path, remedy=_REMEDY)
            aside = {j: v | {"file": verdicts_name(j)} for j, v in summary.get("set_aside", {}).items()}
            shown.append(summary | {"set_aside": aside} | _examples(path.parent, summary))
        except ValueError as error:
            problems.append(str(error))
    return shown, problems


def _examples(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    pairs = read_json(folder / "pairs.json", {}, remedy=_REMEDY)
    judges = next(iter(summary["aspects"].values()))["judges"]
    verdicts = {j: read_json(folder / f"{verdicts_name(j)}.json", {}, remedy=_REMEDY) for j in judges}
    known = [row_id for row_id in pairs if any(row_id in found for found in verdicts.values())]
    places = sorted({round(x) for x in np.linspace(0, len(known) - 1, min(EXAMPLES, len(known)))})
    examples = [
        pairs[row_id]
        | {side: split_answer(pairs[row_id][side]) for side in ("a", "b")}
        | {
            "row_id": row_id,
            "verdicts": [
                {"aspect": aspect, "judge": judge, **found[row_id][aspect]}
                for aspect in summary["aspects"]
                for judge, found in verdicts.items()
                if aspect in found.get(row_id, {})
            ],
        }
        for row_id in (known[place] for place in places)
    ]
    return {"examples": examples, "judged_pairs": len(known)}
