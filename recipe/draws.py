"""Seeded draws of rows, stratified by corpus and label, and their records."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.rows import gold_label

Row = Mapping[str, Any]


def draw_stratified(rows: Sequence[Row], most: int | None, seed: int) -> list[int]:
    """Places of at most ``most`` rows, every corpus and label keeping its share (largest remainders).

    Args:
        rows: to draw from.
        most: None draws all.
        seed: of the draw.
    """
    if most is None or len(rows) <= most:
        return list(range(len(rows)))
    strata = _strata(rows)
    quotas = {key: most * len(members) / len(rows) for key, members in strata.items()}
    share = {key: int(quota) for key, quota in quotas.items()}
    for key in sorted(quotas, key=lambda k: share[k] - quotas[k])[: most - sum(share.values())]:
        share[key] += 1
    draw = random.Random(seed)
    return sorted(place for key, members in strata.items() for place in draw.sample(members, share[key]))


def draw_like(rows: Sequence[Row], model: Sequence[Row], most: int | None, seed: int) -> list[int]:
    """Places of at most ``most`` rows, of which no corpus and label has more than its share in ``model``.

    A label that the policy prefers must not fill B, so what is too many of one label is left out and not
    made up for by another. Every label keeps at least one row.

    Args:
        rows: to draw from.
        model: rows whose shares are the measure; empty: those of ``rows``.
        most: None sets no limit beyond the shares.
        seed: of the draw.
    """
    limit = len(rows) if most is None else min(most, len(rows))
    if not model:
        return draw_stratified(rows, limit, seed)
    shares = {key: len(members) / len(model) for key, members in _strata(model).items()}
    draw, kept = random.Random(seed), []
    for key, members in _strata(rows).items():
        quota = math.ceil(limit * shares.get(key, 0.0)) or 1
        kept += draw.sample(members, min(quota, len(members)))
    drawn = sorted(kept)
    return [drawn[i] for i in draw_stratified([rows[i] for i in drawn], most, seed)]


def at_most_alike(rows: Sequence[Row], share: float, seed: int, least: int = 2) -> list[int]:
    """Places of the rows that are left when no utterance ends more than a share of them.

    Args:
        rows: self-play rows; the last utterance of each is the reply that made it.
        share: of the rows that are left, in (0, 1].
        seed: which of many alike are left.
        least: so many alike may always stay.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        alike[" ".join(row["extra_info"]["context"][-1]["text"].casefold().split())].append(i)
    draw = random.Random(seed)
    for members in alike.values():
        draw.shuffle(members)
    most = max(map(len, alike.values()), default=0)
    while most > least:
        left = sum(min(len(members), most) for members in alike.values())
        allowed = max(least, int(share * left))
        if most <= allowed:
            break
        most = min(allowed, most - 1)
    return sorted(i for members in alike.values() for i in members[:most])


def in_rounds(rows: Sequence[Row], seed: int) -> list[int]:
    """All places, in an order in which any run of rows has the shares of the whole, nearly.

    Each stratum (corpus and label) is shuffled, then spread evenly over the order.

    Args:
        rows: to be put in order.
        seed: of the shuffles.
    """
    draw, keyed = random.Random(seed), []
    for members in _strata(rows).values():
        draw.shuffle(members)
        start = draw.random()
        keyed += [((number + start) / len(members), place) for number, place in enumerate(members)]
    return [place for _, place in sorted(keyed)]


def draw_mix(
    rows: Sequence[dict[str, Any]], mix: Mapping[str, int | None], seed: int
) -> list[dict[str, Any]]:
    """At most ``mix[origin]`` rows of each origin, drawn with a seed, order kept.

    Original rows keep their shares of corpora and labels; self-play rows get no larger ones than those.
    """
    places = {
        origin: [i for i, row in enumerate(rows) if row["extra_info"]["origin"] == origin] for origin in mix
    }
    kept: set[int] = set()
    original: list[dict[str, Any]] = []
    for origin, members in places.items():
        part = [rows[i] for i in members]
        if origin == "self_play":
            drawn = draw_like(part, original, mix[origin], seed)
        else:
            drawn = draw_stratified(part, mix[origin], seed)
            original = [part[i] for i in drawn]
        kept.update(members[i] for i in drawn)
    return [row for i, row in enumerate(rows) if i in kept]


def draw_record(
    before: Sequence[Row],
    after: Sequence[Row],
    limit: Mapping[str, int | None] | int | None,
    seed: int,
) -> dict[str, Any]:
    """What a draw took, so that it can be checked and made again.

    Args:
        before: the rows that it drew from.
        after: the rows that it took.
        limit: how many it was allowed to take, as configured.
        seed: of the draw.

    Returns:
        ``limit``, ``seed``, the counts ``before`` and ``after`` by origin, corpus and heaviest label, and
        the ``row_ids`` taken, in order.
    """

    def counts(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, int]]]:
        table: dict[str, dict[str, dict[str, int]]] = {}
        for (origin, corpus, label), count in sorted(Counter(map(_stratum, rows)).items()):
            table.setdefault(origin, {}).setdefault(corpus, {})[label] = count
        return table

    ids = [row["extra_info"]["row_id"] for row in after]
    limit = dict(limit) if isinstance(limit, Mapping) else limit
    return {"limit": limit, "seed": seed, "before": counts(before), "after": counts(after), "row_ids": ids}


def _stratum(row: Row) -> tuple[str, str, str]:
    return row["extra_info"]["origin"], row["data_source"], gold_label(row)


def _strata(rows: Sequence[Row]) -> dict[tuple[str, str], list[int]]:
    """(corpus, heaviest label) -> places."""
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        strata[row["data_source"], gold_label(row)].append(place)
    return strata
