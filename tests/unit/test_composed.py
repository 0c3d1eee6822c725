"""The tests' quick composition is Hydra's own."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from recipe.run.shortcuts import CONF
from tests.unit.composed import composed

pytestmark = pytest.mark.settings

#: The last one is the default: what others were merged with is as it was.
GROUPS = (
    "",
    "corpus=meld expert=mixed",
    "model=qwen3-4b experiment=paper_exact hardware=1gpu_lora",
    "model=tiny",
)


@pytest.mark.parametrize("groups", GROUPS)
def test_every_choice_of_groups_is_hydras(groups):
    with initialize_config_dir(str(CONF), version_base=None):
        hydras = compose("self_emo", groups.split())
    ours = composed(*groups.split())
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(hydras)
    assert OmegaConf.is_struct(ours)


def test_it_gives_what_hydra_gives():
    overrides = [
        "model=any", "base.name=mine", "base.path=owner/name", "hardware=8gpu", "experiment=paper",
        "+sft.optim.betas=[0.9,0.95]", "++trainer.more={a: 1}", "~trainer.logger", "run.name=null",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base=None):
        hydras = compose("self_emo", overrides)
    assert composed(*overrides) == hydras
    composed("hardware=cpu").run.name = "changed"
    assert composed("hardware=cpu").run.name is None
    for wrong in ("nonsense.key=1", "+run.seed=2", "~nothing"):
        with pytest.raises(ConfigCompositionException):
            composed(wrong)
