"""Gains over seeds and dialogues: by hand, and the coverage of the interval in a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from recipe.evaluation import seeds
from recipe.evaluation.seeds import gain_over_seeds


def records(values: dict[tuple[str, str], list[float]]) -> list[dict]:
    """(corpus, dialogue) -> a value per utterance."""
    return [
        {"row_id": f"{corpus}:{d}:{i}", "corpus": corpus, "dialogue_id": d, "acc": v}
        for (corpus, d), part in values.items()
        for i, v in enumerate(part)
    ]


def pair(before: list[list[float]], after: list[list[float]]):
    return tuple(records({("meld", str(i)): part for i, part in enumerate(side)}) for side in (before, after))


def test_the_gains_by_hand():
    one = pair([[0, 0], [1, 0]], [[1, 1], [1, 0]])  # 1/4 to 3/4
    two = pair([[0, 1], [1, 0]], [[0, 1], [0, 0]])  # 2/4 to 1/4
    found = gain_over_seeds({"a": one, "b": two})
    assert [(s.seed, s.before, s.after) for s in found.seeds] == [("a", 0.25, 0.75), ("b", 0.5, 0.25)]
    assert found.mean == pytest.approx(0.125) and found.deviation == pytest.approx(0.75 / 2**0.5)
    assert (found.up, found.down, found.describe()) == (1, 1, "1 of 2 seeds up")
    assert found.interval[0] < 0 < found.interval[1]
    again = gain_over_seeds({"b": two, "c": two})
    assert again.describe() == "2 of 2 seeds down"


def test_corpora_weigh_alike_whatever_their_size():
    sizes = {("meld", "0"): 9, ("meld", "1"): 1, ("iemocap", "0"): 1, ("iemocap", "1"): 1}
    before = records({dialogue: [0.0] * n for dialogue, n in sizes.items()})
    after = [r | {"acc": float(r["corpus"] == "meld")} for r in before]
    assert gain_over_seeds({"a": (before, after)}).mean == pytest.approx(0.5)


def test_where_every_seed_and_dialogue_gains_alike_the_interval_has_no_width():
    same = pair([[0.0], [0.0], [0.0]], [[1.0], [1.0], [1.0]])
    assert gain_over_seeds({"a": same, "b": same}).interval == (1.0, 1.0)


def test_what_has_no_interval_and_what_cannot_be_paired():
    alone = pair([[0, 0, 1]], [[1, 1, 1]])
    assert gain_over_seeds({"a": alone, "b": alone}).interval is None  # one dialogue says nothing of others
    one = gain_over_seeds({"a": pair([[0], [0], [1]], [[1], [0], [1]])})
    assert one.deviation is None and one.interval[0] < one.interval[1]  # one seed: over dialogues alone
    with pytest.raises(ValueError, match="a: the two checkpoints answered different rows"):
        gain_over_seeds({"a": (alone[0], alone[1][1:])})
    with pytest.raises(ValueError, match="different corpora"):
        gain_over_seeds({"a": alone, "b": tuple([r | {"corpus": "iemocap"} for r in x] for x in alone)})
    with pytest.raises(ValueError, match="no seeds"):
        gain_over_seeds({})


def test_one_seed_is_the_bootstrap_over_dialogues():
    draw = np.random.default_rng(5)
    before = [list(draw.integers(0, 2, size=n).astype(float)) for n in (3, 1, 4, 2, 5, 3, 2, 4)]
    after = [[float(x or y < 0.5) for x, y in zip(p, draw.random(len(p)), strict=True)] for p in before]
    n = np.array([len(p) for p in before])
    gained = np.array([sum(b) - sum(a) for a, b in zip(before, after, strict=True)])
    picks = draw.integers(0, len(n), size=(20_000, len(n)))
    expected = np.quantile(gained[picks].sum(axis=1) / n[picks].sum(axis=1), (0.025, 0.975))
    found = gain_over_seeds({"a": pair(before, after)}, resamples=20_000).interval
    assert found == pytest.approx(expected, abs=0.02)


def test_another_measure():
    one = pair([[0.0], [0.0]], [[1.0], [1.0]])
    assert gain_over_seeds({"a": one}, measure=lambda r: 2 * r["acc"]).mean == pytest.approx(2.0)


def test_seeds_that_answered_other_dialogues_are_averaged_too():
    one = pair([[0.0], [0.0]], [[1.0], [1.0]])
    other = tuple([r | {"dialogue_id": f"x{r['dialogue_id']}"} for r in side] for side in one)
    found = gain_over_seeds({"a": one, "b": other})
    assert found.mean == 1.0 and found.interval == (1.0, 1.0)


@pytest.mark.parametrize("nested", [False, True])
def test_the_interval_covers_what_it_should(monkeypatch, nested):
    """Five seeds that share their dialogues, whose luck is large: about 95 % of the intervals hold 0.1.

    An interval that took the seeds' dialogues for different ones would hold it less often: the second case
    is that one, so the test can fail.
    """
    monkeypatch.setattr(seeds, "_p", lambda *_: 1.0)  # not looked at here
    draw, held, times = np.random.default_rng(2), 0, 120
    for _ in range(times):
        luck = draw.normal(0, 0.4, size=(15, 1))
        pairs = {}
        for s in range(5):
            values = 0.1 + draw.normal(0, 0.03) + luck + draw.normal(0, 0.2, size=(15, 3))
            before, after = pair([[0.0] * 3] * 15, values.tolist())
            if nested:
                before, after = (
                    [r | {"dialogue_id": f"{s}-{r['dialogue_id']}"} for r in x] for x in (before, after)
                )
            pairs[str(s)] = (before, after)
        low, high = gain_over_seeds(pairs, resamples=500, seed=1).interval
        held += low <= 0.1 <= high
    assert (held / times < 0.8) if nested else (held / times >= 0.88)
