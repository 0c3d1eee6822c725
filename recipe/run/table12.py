"""A run's settings beside those of Appendix E (Table 12), which `conf/experiment/paper_exact.yaml` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recipe.run.flatten import flatten, load_config, plain

_PAPER = Path(__file__).parents[2] / "conf/experiment/paper_exact.yaml"
#: The nodes of that file that Table 12 speaks of; its others are the paper's data and ours.
_NODES = ("data", "actor_rollout_ref", "algorithm", "trainer")


def against_paper(config: DictConfig) -> list[dict[str, Any]]:
    """One line per setting of Table 12: ``name``, ``paper``, ``here``, are they the ``same``, a ``note``.

    ``here`` is None for a setting that this run's configuration does not have. The note says where a size of
    micro-batches only documents, because they follow the tokens: the sums are the same, their parts are not.
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
        most = _tokens_instead(config, line["name"])
        line["note"] = f"by tokens instead, at most {most:,} a GPU: the same sums" if most else ""
    return lines


def _tokens_instead(config: DictConfig, name: str) -> int | None:
    """Tokens of a micro-batch on one GPU where they, and not the size ``name``, decide it; else None."""
    node, _, size = name.rpartition(".")
    dynamic, most = {
        "ppo_micro_batch_size_per_gpu": ("use_dynamic_bsz", "ppo_max_token_len_per_gpu"),
        "log_prob_micro_batch_size_per_gpu": ("log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu"),
    }.get(size, ("", ""))
    if not dynamic or not OmegaConf.select(config, f"{node}.{dynamic}"):
        return None
    return int(OmegaConf.select(config, f"{node}.{most}"))
