"""Which rollouts the page shows, with everything that its filters ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.rows import ground_truth
from recipe.evaluation.rl_stages import RlStage, groups_of
from rewards.parse import THINK_CLOSE, THINK_OPEN

#: So many groups go onto the page, evenly spread over all RL steps, and so many characters of an answer.
GROUPS = 160
_LONGEST = 6_000


def shown_groups(stages: Sequence[RlStage], most: int = GROUPS) -> list[dict[str, Any]]:
    """Groups for the page, the last ones first.

    Returns:
        For each: ``stage``, ``step``, both as ``place``, ``messages`` of the prompt, its ``label``,
        ``group`` in numbers and its ``rollouts`` by falling R. The best of a group is its ``best``;
        ``enters_b`` marks the one that is also the best of its prompt over the whole stage.
    """
    every = [(stage, i) for stage in stages for i in range(len(stage.groups))]
    chosen = sorted({round(x) for x in np.linspace(0, len(every) - 1, min(most, len(every)))}, reverse=True)
    shown, file, by_uid = [], None, {}
    for place in chosen:
        stage, i = every[place]
        path, uid = stage.places[i]
        if path != file:
            file, by_uid = path, dict(groups_of(path))
        row, rollouts = stage.rows[stage.groups[i].row_id], by_uid[uid]
        first = max(rollouts, key=lambda r: (r["score"], r["r2"], -r["rollout_index"]))
        shown.append(
            {
                "stage": stage.name,
                "step": stage.groups[i].step,
                "place": f"{stage.name}/{stage.groups[i].step}",
                "messages": row["prompt"],
                "label": ground_truth(row),
                "group": stage.groups[i],
                "rollouts": [
                    {
                        **r,
                        **split_answer(r["response"]),
                        "best": r is first,
                        "enters_b": stage.best.get(r["row_id"]) == (r["step"], r["rollout_index"]),
                    }
                    for r in sorted(rollouts, key=lambda r: (-r["score"], -r["r2"], r["rollout_index"]))
                ],
            }
        )
    return shown


def split_answer(response: str) -> dict[str, str]:
    """``think`` and ``rest`` of an answer, at most so much as a page shows.

    All of it is ``rest`` if there is no closed think block.
    """
    if len(response) > _LONGEST:
        cut = len(response) - _LONGEST
        response = f"{response[: _LONGEST // 2]}\n[… {cut} characters …]\n{response[-_LONGEST // 2 :]}"
    before, found, rest = response.partition(THINK_CLOSE)
    if not found:
        return {"think": "", "rest": response}
    return {"think": before.replace(THINK_OPEN, "", 1).strip(), "rest": rest.strip()}
