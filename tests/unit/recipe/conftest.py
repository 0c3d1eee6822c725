"""What the tests of `recipe` share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def nothing_is_imported_ahead(monkeypatch):
    """No stage starts here, so no process has to import for half a minute what one needs."""
    from recipe.run import warm_start

    monkeypatch.setattr(warm_start, "begin", lambda *_: None)


@pytest.fixture
def quick_compose(monkeypatch):
    """Has `conf/` composed by `tests.unit.composed`, which `test_composed` holds against Hydra."""
    import recipe.run.scoring_config
    import recipe.score
    from tests.unit.composed import composed

    hydras = recipe.score.compose

    def compose(name: str, overrides: Any = ()) -> Any:
        return composed(*overrides) if name == "self_emo" else hydras(name, overrides)

    for module in (recipe.score, recipe.run.scoring_config):
        monkeypatch.setattr(module, "compose", compose)
