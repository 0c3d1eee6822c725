"""A run's settings beside those of Appendix E (Table 12), which `conf/experiment/paper.yaml` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.run.flatten import flatten, load_config, plain

_PAPER = Path(__file__).parents[2] / "conf/experiment/paper.yaml"
#: The nodes of that file that Table 12 speaks of; its others are the paper's data and ours.
_NODES = ("data", "actor_rollout_ref", "algorithm", "trainer")


def against_paper(config: DictConfig) -> list[dict[str, Any]]:
    """One line per setting of Table 12: ``name``, ``paper``, ``here`` and whether they are the ``same``.

    ``here`` is None for a setting that this run's configuration does not have.
    """
    paper = load_config(_PAPER)
    lines = [{"name": "base.name", "paper": "Qwen3-8B or Qwen3-4B", "here": config.base.name}]
    lines += [
        {"name": name, "paper": value, "here": OmegaConf.select(config, name)}
        for node in _NODES
        for name, value in flatten(plain(paper[node], resolve=False), f"{node}.").items()
    ]
    for line in lines:
        here, paper_value = line["here"], line["paper"]
        line["same"] = here == paper_value or (
            line["name"] == "base.name" and here in ("Qwen3-8B", "Qwen3-4B")
        )
    return lines
