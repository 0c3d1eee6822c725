"""Adapters merged into the weights that they were trained on, so that every loader can read the export.

veRL exports a model that is trained with LoRA under PEFT's own names, which neither Hugging Face nor vLLM can
load as a model. What an adapter stands for is W + (alpha / r) B A (Hu et al., arXiv:2106.09685, Section 4.1).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

#: What veRL writes beside an export: rank and alpha.
META = "lora_train_meta.json"
_PREFIX, _BASE = "base_model.model.", ".base_layer."


def merged(exported: Path, most_bytes: int = 4 * 2**30) -> Path:
    """The export itself, or a folder beside it in which its adapters are merged.

    Args:
        exported: the Hugging Face folder of a checkpoint, whose parent holds `META` where LoRA was trained.
        most_bytes: of one weight file.

    Raises:
        ValueError: the export holds adapters of another kind.
    """
    meta = exported.parent / META
    if not meta.exists():
        return exported
    found = json.loads(meta.read_text(encoding="utf-8"))
    target = exported.with_name(exported.name + ".merged")
    shutil.rmtree(target, ignore_errors=True)
    weights = ("*.safetensors", "*.safetensors.index.json")
    shutil.copytree(exported, target, ignore=shutil.ignore_patterns(*weights))
    tied = json.loads((exported / "config.json").read_text(encoding="utf-8")).get(
        "tie_word_embeddings", False
    )
    _write(exported, target, found["lora_alpha"] / found["r"], most_bytes, without_head=tied)
    return target


def _write(exported: Path, target: Path, scale: float, most_bytes: int, without_head: bool) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with ExitStack() as stack:
        files = [
            stack.enter_context(safe_open(p, framework="pt")) for p in sorted(exported.glob("*.safetensors"))
        ]
        held = {name: file for file in files for name in file.keys()}  # noqa: SIM118  no mapping
        kept = [n for n in held if "lora_" not in n and not (without_head and n.endswith("lm_head.weight"))]
        if strange := [
            n for n in held if "lora_" in n and ".lora_A.default." not in n.replace("lora_B", "lora_A")
        ]:
            raise ValueError(f"{exported}: {strange[0]} is no adapter that can be merged; train without it")
        shards = list(_shards(kept, held, most_bytes))
        index: dict[str, str] = {}
        for number, names in enumerate(shards, start=1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {_plain(name): _tensor(name, held, scale) for name in names}
            save_file(tensors, target / file, metadata={"format": "pt"})
            index |= dict.fromkeys(tensors, file)
    content = {"metadata": {}, "weight_map": index}
    (target / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def _plain(name: str) -> str:
    return name.removeprefix(_PREFIX).replace(_BASE, ".")


def _tensor(name: str, held: dict[str, Any], scale: float) -> Any:
    weight = held[name].get_tensor(name)
    layer, found, kind = name.rpartition(_BASE)
    down, up = (f"{layer}.lora_{side}.default.weight" for side in "AB")
    if not found or kind != "weight" or down not in held:
        return weight
    change = held[up].get_tensor(up).float() @ held[down].get_tensor(down).float()
    return (weight.float() + scale * change).to(weight.dtype).contiguous()


def _shards(names: list[str], held: dict[str, Any], most_bytes: int) -> Iterator[list[str]]:
    """Names in groups of at most ``most_bytes``, float32 being the largest that there is."""
    group: list[str] = []
    size = 0
    for name in names:
        needed = 4 * math.prod(held[name].get_slice(name).get_shape())
        if group and size + needed > most_bytes:
            yield group
            group, size = [], 0
        group.append(name)
        size += needed
    yield group
