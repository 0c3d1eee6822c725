"""Types of veRL's own settings, from its dataclasses, which veRL itself does not check."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_class

from data_prep.setting_types import shown

#: Nodes of the trainer that no run of ours uses, and whose defaults do not keep veRL's own types.
_UNUSED = ("critic.", "reward.")
_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def verl_faults(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What has another type than the field of the dataclass that its node names, a line a fault.

    Args:
        settings: plain containers, references resolved; nodes name their dataclass as ``_target_``.
        prefix: of every name, with its dot.
    """
    if prefix.startswith(_UNUSED) or "profiler" in prefix:
        return
    hints = _field_types(settings.get("_target_"))
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from verl_faults(value, f"{prefix}{name}.")
        elif name in hints and not _fits(value, *hints[name]):
            kind, optional = hints[name]
            yield f"{prefix}{name}={shown(value)} must be {_WANTED[kind]}{' or null' if optional else ''}"


def _field_types(target: Any) -> dict[str, tuple[type, bool]]:
    """Field -> its type and whether null is one of its values, of those with a plain type."""
    cls = get_class(target) if isinstance(target, str) else None
    if not (cls and dataclasses.is_dataclass(cls)):
        return {}
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        kinds = set(typing.get_args(hint)) if union else {hint}
        plain = kinds - {type(None)}
        if len(plain) == 1 and (kind := plain.pop()) in _WANTED:
            found[name] = (kind, type(None) in kinds)
    return found


def _fits(value: Any, kind: type, optional: bool) -> bool:
    if value is None:
        return optional
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, int | str if kind is str else int)
