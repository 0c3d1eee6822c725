"""A configuration from a file, as plain containers, and as one mapping that can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; an empty mapping is a value.

    Args:
        value: of plain containers.
        prefix: of every key, with its dot.
    """
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in flatten(item, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def load_config(path: Path) -> DictConfig:
    """Settings from a YAML file.

    Raises:
        ValueError: the file holds no settings by name.
    """
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path}: no settings by name")
    return config


def plain(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """A node of a configuration as plain containers, its references resolved or left as they stand.

    Raises:
        TypeError: the node is a list or a value.
    """
    found = OmegaConf.to_container(config, resolve=resolve)
    if not isinstance(found, dict):
        raise TypeError(f"a mapping is expected, not {type(found).__name__}")
    return {str(name): value for name, value in found.items()}
