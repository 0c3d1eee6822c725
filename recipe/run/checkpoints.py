"""Which of a training stage's checkpoints can be gone on from. For veRL 0.9.1 and its FSDP checkpoints.

veRL believes its tracker, which it truncates before it writes the number; and it writes a checkpoint under
its final name: the actor's files, then the weights for Hugging Face, ``data.pt`` last. So what a stage goes
on from is settled here, by the files themselves, before veRL looks.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from data_prep.files import sync, write_text

_TRACKER = "latest_checkpointed_iteration.txt"
_SHARD = re.compile(r"(model|optim|extra_state)_world_size_(\d+)_rank_(\d+)\.pt")
#: What a checkpoint holds by its setting ``save_contents``, as the first word of its shards' names.
_KINDS = {"model": "model", "optimizer": "optim", "extra": "extra_state"}


def settle(folder: Path, contents: Iterable[str]) -> int:
    """Keep the newest whole checkpoint alone and have the tracker name it.

    Args:
        folder: with ``global_step_<n>`` and the tracker; it need not be there.
        contents: ``actor.checkpoint.save_contents``.

    Returns:
        Its step; 0 if none is whole, and the stage begins anew.
    """
    steps = {int(path.name.removeprefix("global_step_")): path for path in folder.glob("global_step_*")}
    whole = max((step for step, path in steps.items() if _is_whole(path, set(contents))), default=0)
    for step, path in steps.items():
        if step != whole:
            shutil.rmtree(path)
    if whole:
        sync(steps[whole])
        write_text(folder / _TRACKER, str(whole))
    else:
        (folder / _TRACKER).unlink(missing_ok=True)
    return whole


def make_room(folder: Path, most: int | None) -> None:
    """Delete the oldest checkpoints of a stage that is about to save one: ``most`` are there when it has.

    veRL does so with those alone that its own process has saved; what a stage has gone on from would stay.

    Args:
        folder: as for `settle`.
        most: ``trainer.max_actor_ckpt_to_keep``; the newest one stays in any case. None: all stay.
    """
    steps = sorted(folder.glob("global_step_*"), key=lambda path: int(path.name.removeprefix("global_step_")))
    for path in steps[: -max(most - 1, 1)] if most else ():
        shutil.rmtree(path)


def _is_whole(checkpoint: Path, contents: set[str]) -> bool:
    actor = checkpoint / "actor"
    shards = [found for path in actor.glob("*.pt") if (found := _SHARD.fullmatch(path.name))]
    wanted = {
        f"{kind}_world_size_{size}_rank_{rank}.pt"
        for size in {int(shard[2]) for shard in shards}
        for kind in (_KINDS[name] for name in contents & _KINDS.keys())
        for rank in range(size)
    }
    if not shards or not wanted <= {shard[0] for shard in shards} or not (checkpoint / "data.pt").exists():
        return False
    if "hf_model" in contents and not _is_model(actor / "huggingface"):
        return False
    return all(_is_readable(path) for path in checkpoint.rglob("*") if path.is_file())


def is_whole_model(folder: Path) -> bool:
    """Does a Hugging Face folder hold a configuration and all of its weights, none of them cut?"""
    return _is_model(folder) and all(_is_readable(path) for path in folder.iterdir() if path.is_file())


def _is_model(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if not (folder / "config.json").exists():
        return False
    if not index.exists():
        return (folder / "model.safetensors").exists()
    return _is_readable(index) and all(
        (folder / name).exists() for name in json.loads(index.read_bytes())["weight_map"].values()
    )


def _is_readable(path: Path) -> bool:
    """Has a file the length that its own form asks for? A power loss leaves files empty or cut."""
    if path.suffix == ".pt":  # a zip archive, whose directory stands at its end
        return zipfile.is_zipfile(path)
    if path.suffix == ".safetensors":  # eight bytes, the header, the weights
        with path.open("rb") as file:
            try:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            except (ValueError, OverflowError):
                return False
            begin = file.tell()
        ends = [weight["data_offsets"][1] for name, weight in header.items() if name != "__metadata__"]
        return path.stat().st_size == begin + max(ends, default=0)
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return False
    return True
