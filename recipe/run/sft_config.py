"""veRL's own SFT configuration with the recipe's settings on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from recipe.run.flatten import plain


def sft_config(overlay: DictConfig) -> DictConfig:
    """veRL's `sft_trainer_engine` with ``overlay`` on it.

    Raises:
        ValueError: the overlay names a setting that veRL does not have.
    """
    config = _verls_own().copy()
    settings = plain(overlay)
    if unknown := list(_unknown_keys(config, settings, "sft")):
        raise ValueError(f"veRL's SFT trainer has no setting {', '.join(unknown)}")
    OmegaConf.set_struct(config, False)
    config.merge_with(settings)
    return config


@cache
def _verls_own() -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("sft_trainer_engine")


def _unknown_keys(known: DictConfig, settings: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Keys of ``settings`` that ``known`` lacks; a node that is empty in ``known`` takes anything.

    A node that names its dataclass may set all of its fields, also those that veRL's YAML leaves out.
    """
    target = known.get("_target_")
    fields = {f.name for f in dataclasses.fields(get_class(target))} if target else set()
    for key, value in settings.items():
        if key not in known and key not in fields:
            yield f"{prefix}.{key}"
        elif isinstance(value, dict) and isinstance(known.get(key), DictConfig) and len(known[key]):
            yield from _unknown_keys(known[key], value, f"{prefix}.{key}")
