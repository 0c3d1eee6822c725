"""A prompt goes through the model once for all of its answers.

The rollouts of a group begin with the same tokens. Here a group is one row: the prompt without its last
token, then for each answer that last token and the answer. Tokens of an answer see the prompt and their own
answer, at the positions that they would have alone, so every hidden state is what it is in a row of its own.
With 8 answers of 39 tokens to a prompt of 77 that is 396 tokens in place of 928.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

#: The label of a token that no loss looks at.
IGNORED = -100


class Row(NamedTuple):
    """A row of a batch: which group it is of, the tokens it shares with it, and those of its own."""

    group: int
    head: int
    tail: int


class Packed(NamedTuple):
    """Groups as rows.

    ``input_ids``, ``position_ids`` and ``labels``: (groups, longest); ``attention_mask``: (groups, 1,
    longest, longest), True where a token (the second last axis) sees another; ``places``: (rows, longest
    row), where in the flattened groups a token of a row is, or their number for one of a prompt or beyond.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor


def rows_of(input_ids: torch.Tensor, labels: torch.Tensor) -> list[Row]:
    """Which rows begin alike up to the token before the first label.

    Args:
        input_ids: nested, a row's tokens.
        labels: (rows, longest), `IGNORED` where no loss looks.
    """
    groups: dict[bytes, int] = {}
    found = []
    counted = labels != IGNORED
    heads = torch.where(counted.any(1), counted.long().argmax(1), 0).tolist()
    for number, (row, head) in enumerate(zip(input_ids.unbind(), heads, strict=True)):
        key = row[:head].numpy().tobytes() if head else f"row {number}".encode()
        found.append(Row(groups.setdefault(key, len(groups)), head, len(row) - head))
    return found


def worth_sharing(rows: Sequence[Row]) -> bool:
    """Whether prompts are shared at all, and are most of their rows.

    In a shared row attention goes over all answers, which are hidden by a mask but computed: long answers to
    a short prompt are faster alone.
    """
    shared = len({row.group for row in rows}) < len(rows)
    return shared and sum(row.head for row in rows) >= sum(row.tail for row in rows)


def in_order(rows: Sequence[Row]) -> list[int]:
    """The rows' numbers, those of a group together, short groups first."""
    size = _lengths(rows)
    return sorted(range(len(rows)), key=lambda i: (size[rows[i].group], rows[i].group))


def packed_tokens(rows: Sequence[Row]) -> int:
    """How many tokens, padding included, rows take that go through the model together."""
    size = _lengths(rows)
    return len(size) * max(size.values())


def _lengths(rows: Sequence[Row]) -> dict[int, int]:
    size: dict[int, int] = {}
    for row in rows:
        size[row.group] = size.get(row.group, row.head) + row.tail
    return size


def pack(input_ids: torch.Tensor, labels: torch.Tensor, rows: Sequence[Row], padding: int) -> Packed:
    """One row for each group.

    Args:
        input_ids: nested, a row's tokens.
        labels: (rows, longest), `IGNORED` where no loss looks.
        rows: what `rows_of` says of them.
        padding: the token that fills up.
    """
    size = _lengths(rows)
    number = {group: i for i, group in enumerate(size)}
    shape = (len(size), max(size.values()))
    tokens, positions, owner = torch.full(shape, padding), torch.zeros(shape).long(), torch.full(shape, -1)
    new_labels = torch.full(shape, IGNORED)
    places = torch.full(labels.shape, shape[0] * shape[1])
    filled: dict[int, int] = {}
    for i, (ids, (group, head, tail)) in enumerate(zip(input_ids.unbind(), rows, strict=True)):
        g = number[group]
        if group not in filled:
            filled[group] = head
            tokens[g, :head], positions[g, :head], owner[g, :head] = ids[:head], torch.arange(head), 0
        here = slice(filled[group], filled[group] + tail)
        tokens[g, here], positions[g, here] = ids[head:], torch.arange(head, head + tail)
        owner[g, here], new_labels[g, here] = i + 1, labels[i, head : head + tail]
        places[i, head : head + tail] = torch.arange(here.start, here.stop) + g * shape[1]
        filled[group] = here.stop
    sees = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])
    return Packed(tokens, sees.tril()[:, None], positions, new_labels, places)


def unpack(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """A value of each token of the groups (groups, longest) as (rows, longest row), 0 for prompts."""
    return torch.cat([values.flatten(), values.new_zeros(1)])[places]


def understood_by(config: Any) -> bool:
    """Whether a model sees by such a mask: full attention in every layer, positions that are rotated in.

    Args:
        config: of transformers, of the loaded model.
    """
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    rotary = getattr(config, "rope_parameters", None) or getattr(config, "rope_theta", None)
    return (
        config._attn_implementation == "sdpa"
        and layers == {"full_attention"}
        and not getattr(config, "sliding_window", None)
        and bool(rotary)
    )
