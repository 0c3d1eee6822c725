"""A checkpoint's files as others load them, without what only the machine that trained it needs to know."""

from __future__ import annotations

import math
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors import safe_open

from data_prep.files import write_json
from recipe.models import weights
from recipe.run.files import read_json

_COPIED = (
    "*.safetensors", "model.safetensors.index.json", "chat_template.jinja", "tokenizer.json",
    "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip
#: Of a machine: where the model lay, and by which kernels it was trained.
_OWN = {
    "_name_or_path", "name_or_path", "is_local", "local_files_only", "attn_implementation",
    "_attn_implementation",
}  # fmt: skip
#: Of a generation configuration: which tokens mean what; how to sample is the evaluation's.
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version")


def write_model(model: Path, target: Path, config: DictConfig) -> None:
    """Copy a checkpoint into a folder that is there: weights, tokenizer, chat template, configurations.

    ``config.json`` names the type that the weights have: loaded in another one, they would not give the
    answers that were scored. ``generation_config.json`` answers as the evaluation asked.

    Args:
        model: the checkpoint's Hugging Face folder.
        target: the folder to be filled.
        config: the run's settings.

    Raises:
        ValueError: the disk has no room for the weights, or the checkpoint needs code of its own.
    """
    paths = [p for p in sorted(model.iterdir()) if any(fnmatch(p.name, pattern) for pattern in _COPIED)]
    _see_room(sum(path.stat().st_size for path in paths), target)
    found = read_json(model / "config.json")
    if "auto_map" in found:
        raise ValueError(
            f"{model / 'config.json'} asks for code of the model's own (auto_map), which this project "
            "neither runs nor passes on; train a model of an architecture that transformers has"
        )
    for path in paths:
        shutil.copyfile(path, target / path.name)
    own = {name: value for name, value in found.items() if name not in _OWN}
    if (kept := weights.dtype_of(model)) is not None:
        own |= {"dtype": kept}
        own.pop("torch_dtype", None)  # the older name of the same
    write_json(target / "config.json", own)
    tokenizer = read_json(model / "tokenizer_config.json", {})
    write_json(
        target / "tokenizer_config.json", {name: v for name, v in tokenizer.items() if name not in _OWN}
    )
    write_json(target / "generation_config.json", _generation(model, own, config))


def _see_room(size: int, target: Path) -> None:
    if (free := shutil.disk_usage(target).free) < size:
        raise ValueError(
            f"the weights take {size / 2**30:.2f} GiB, and the disk of {target.parent} has "
            f"{free / 2**30:.2f} free; free some, and run the same command again"
        )


def _generation(model: Path, own: dict[str, Any], config: DictConfig) -> dict[str, Any]:
    """How the evaluation asked: greedily, or by samples; answers may be as long as in training."""
    kept = own | read_json(model / "generation_config.json", {})
    found = {name: kept[name] for name in _TOKENS if kept.get(name) is not None}
    evaluate = config.evaluate
    several = evaluate.get("samples", 1) > 1
    found |= {"do_sample": True, "temperature": evaluate.temperature} if several else {"do_sample": False}
    if longest := config.data.get("max_response_length"):
        found["max_new_tokens"] = longest
    return found


def parameters_of(model: Path) -> int:
    """How many numbers a checkpoint's weight files hold, from their headers alone."""
    count = 0
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count
