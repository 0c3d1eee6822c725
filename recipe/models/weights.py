"""A model on disk: its sizes from its configuration, and its identity from its files."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from data_prep.files import write_json
from recipe.models import tiny

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


class ModelError(ValueError):
    """MODEL names nothing that can be loaded; the message says what was tried and what to do."""


def count_parameters(path: str) -> int:
    """Parameters of a model, from its configuration alone: nothing is loaded.

    Raises:
        ModelError: the configuration is broken or of an unknown architecture.
    """
    if path == "builtin:tiny":
        return tiny.PARAMETERS
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters()
    except Exception as error:
        raise _unusable(path, error) from None


def attention_heads(path: str) -> tuple[int, int]:
    """Attention heads and key-value heads of a model, from its configuration alone.

    Raises:
        ModelError: the configuration is broken or names no heads.
    """
    if path == "builtin:tiny":
        return tiny.HEADS
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config()
        heads = config.num_attention_heads
    except Exception as error:
        raise _unusable(path, error) from None
    return heads, getattr(config, "num_key_value_heads", None) or heads


def context_length(path: str) -> int:
    """Tokens that a model can read and write together, from its configuration alone.

    Raises:
        ModelError: the configuration is broken or does not say.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        return config.get_text_config().max_position_embeddings
    except Exception as error:
        raise _unusable(path, error) from None


def _unusable(path: str, error: Exception) -> ModelError:
    """For whatever transformers raises on a broken file."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return ModelError(f"the configuration of MODEL={path!r} cannot be used: {reason}")


def largest_weight_mib(folder: str | Path) -> int:
    """Size of a checkpoint's largest weight in float32, in MiB, rounded up; from the files' headers alone."""
    from safetensors import safe_open

    largest = 0
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            largest = max([largest, *(math.prod(file.get_slice(k).get_shape()) for k in file.keys())])  # noqa: SIM118
    return math.ceil(4 * largest / 2**20)


def dtype_of(folder: str | Path) -> str | None:
    """The one type that all weights of a checkpoint have, by transformers' name; None where they differ."""
    from safetensors import safe_open

    kinds = set()
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            kinds |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return _DTYPES.get(kinds.pop()) if len(kinds) == 1 else None


def state_dtype(folder: Path) -> None:
    """Have a checkpoint's ``config.json`` name the type that its weights have.

    veRL 0.9.1 exports them through an empty bfloat16 model, whatever they are
    (`verl.utils.checkpoint.fsdp_checkpoint_manager`), so that its configuration says bfloat16 of float32.
    Loaded by it they would be rounded.
    """
    if (found := dtype_of(folder)) is None:
        return
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("torch_dtype", None)  # the older name of the same
    write_json(path, content | {"dtype": found})


def digest(folder: str | Path) -> str:
    """A short name for a checkpoint's content: hash over its weight files' names, sizes and first MiB."""
    hasher = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            hasher.update(json.dumps([path.name, path.stat().st_size]).encode() + file.read(1 << 20))
    return hasher.hexdigest()[:12]
