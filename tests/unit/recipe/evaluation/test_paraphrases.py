"""Mean and range over wordings of the prompt."""

from __future__ import annotations

import pytest

from recipe.evaluation.measures import MEASURES
from recipe.evaluation.paraphrases import spread


def test_mean_and_range_over_wordings():
    found = spread([{"avg": dict.fromkeys(MEASURES, value) | {"n": 3}} for value in (0.5, 0.2, 0.8)])
    assert found["avg"].keys() == set(MEASURES)
    assert found["avg"]["accuracy"] == {
        "mean": pytest.approx(0.5), "low": 0.2, "high": 0.8, "values": [0.5, 0.2, 0.8],
    }  # fmt: skip
