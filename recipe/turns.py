"""Self-play over several turns (Eq. 7, iterated): the policy answers its own dialogues, role after role.

    d*_1 = (C + r, Label_new)   from y* of a prompt              (`recipe.buffer.self_play_row`)
    d*_j is answered n times as its persona; R against Label_j chooses the best answer, which becomes
    d*_j's response and gives d*_{j+1} = (C_j + r_j, its my_emotions); a chain ends where nothing passes.

No weights change here, and nothing here knows a model: whoever calls says how prompts are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.prompt import PromptTemplates
from recipe.buffer import best_rollouts, scored, self_play_row

Row = dict[str, Any]
#: Rows -> row_id -> n answers to the row's prompt.
Answer = Callable[[Sequence[Row]], Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Turn:
    """One turn of all chains.

    Attributes:
        number: j, from 1 on.
        rows: d*_j, with a response where one passed.
        samples: all answers with their rewards, as `recipe.buffer.scored` has them.
        following: d*_{j+1}.
    """

    number: int
    rows: list[Row]
    samples: list[dict[str, Any]]
    following: list[Row]


def play(
    asked: Iterable[Row],
    answer: Answer,
    templates: PromptTemplates,
    *,
    iteration: int,
    model: str,
    turns: int,
    min_reward: float,
    min_named_weight: float,
    first: int = 1,
) -> Iterator[Turn]:
    """Play turns, each from what the one before left.

    Args:
        asked: d*_first.
        answer: how prompts are answered.
        templates: to render new prompts.
        iteration, model: for the lineage.
        turns: the last turn's number.
        min_reward: an answer must earn more than this.
        min_named_weight: as for `advantage.self_grpo.secondary_rewards`.
        first: the number of the first turn; larger where earlier ones were played before a stop.
    """
    rows = unique(asked)
    for number in range(first, turns + 1):
        if not rows:
            return
        texts = answer(rows)
        answered, samples, following = [], [], []
        for row in rows:
            row_id = row["extra_info"]["row_id"]
            group = scored(row, texts[row_id], min_named_weight)
            samples += [{**sample, "turn": number} for sample in group]
            best = best_rollouts(group, min_reward).get(row_id)
            answered.append(_answered(row, best, iteration, model))
            if best:
                new = self_play_row(row, best, templates, iteration=iteration, model=model, turn=number + 1)
                following += [new] if new else []
        rows = unique(following)
        yield Turn(number, answered, samples, rows)


def unique(rows: Iterable[Row]) -> list[Row]:
    """The rows without those whose content has been there; a row's id is made from its content."""
    return list({row["extra_info"]["row_id"]: row for row in reversed(list(rows))}.values())[::-1]


def _answered(row: Row, best: Mapping[str, Any] | None, iteration: int, model: str) -> Row:
    if best is None:
        return row
    source = {
        "source": "self_play",
        "iteration": iteration,
        "rollout_index": best["rollout_index"],
        "reward": best["score"],
        "r2": best["r2"],
        "model": model,
    }
    return row | {"response": best["response"], "response_from": source}
