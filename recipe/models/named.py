"""From MODEL to something that can be loaded: a built-in small model, a folder, or a hub id."""

from __future__ import annotations

from pathlib import Path

from recipe.models import hub
from recipe.models.smollm2 import convert_smollm2
from recipe.models.weights import ModelError


def resolve(path: str) -> str:
    """A model's folder or hub id, checked.

    Args:
        path: ``builtin:tiny`` (returned as it is: it is made from the run's data),
            ``builtin:smollm2-135m``, a folder with a config.json, or a hub id.

    Raises:
        ModelError: it is none of these, or the hub cannot be reached.
    """
    if path == "builtin:tiny":
        return path
    if path == "builtin:smollm2-135m":
        return str(convert_smollm2())
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is a folder without config.json, so it is no Hugging Face model")
        return str(folder.resolve())
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ModelError(
            f"MODEL={path!r} is neither a known model (tiny, SmolLM2-135M, Qwen3-1.7B, Qwen3-4B, Qwen3-8B), "
            "nor a folder, nor a hub id of the form owner/name"
        )
    hub.check(path)
    return path


def is_hub_id(path: str) -> bool:
    """Whether what `resolve` returned has yet to be fetched from the hub."""
    return not path.startswith("builtin:") and not Path(path).is_dir()
