"""An RL stage goes on from the newest checkpoint that is whole, whatever veRL's tracker says."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recipe.run.checkpoints import make_room, settle

CONTENTS = ["model", "optimizer", "extra", "hf_model"]
TRACKER = "latest_checkpointed_iteration.txt"


def archive(path: Path) -> None:
    """As `torch.save` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"numbers" * 100)


def checkpoint(folder: Path, step: int, ranks: int = 2) -> Path:
    made = folder / f"global_step_{step}"
    for rank in range(ranks):
        for kind in ("model", "optim", "extra_state"):
            archive(made / f"actor/{kind}_world_size_{ranks}_rank_{rank}.pt")
    (made / "actor/fsdp_config.json").write_text("{}")
    (made / "actor/huggingface").mkdir()
    (made / "actor/huggingface/config.json").write_text("{}")
    save_file({"a": np.ones(64, np.float32)}, made / "actor/huggingface/model.safetensors")
    archive(made / "data.pt")
    (folder / TRACKER).write_text(str(step))
    return made


def left(folder: Path) -> tuple[list[str], str | None]:
    tracker = folder / TRACKER
    return sorted(p.name for p in folder.glob("global*")), tracker.read_text() if tracker.exists() else None


def test_nothing_to_go_on_from(tmp_path):
    assert settle(tmp_path / "none", CONTENTS) == 0


@pytest.mark.parametrize("tracker", ["", "3", "9", None])
def test_the_tracker_is_not_believed(tmp_path, tracker):
    for step in (3, 10):
        checkpoint(tmp_path, step)
    (tmp_path / TRACKER).unlink() if tracker is None else (tmp_path / TRACKER).write_text(tracker)
    assert settle(tmp_path, CONTENTS) == 10
    assert left(tmp_path) == (["global_step_10"], "10")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [Path.unlink, empty, cut])
@pytest.mark.parametrize(
    "name",
    ["data.pt", "actor/model_world_size_2_rank_1.pt", "actor/optim_world_size_2_rank_0.pt",
     "actor/extra_state_world_size_2_rank_1.pt", "actor/huggingface/model.safetensors",
     "actor/huggingface/config.json"],
)  # fmt: skip
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(tmp_path, name, harm):
    checkpoint(tmp_path, 1)
    harm(checkpoint(tmp_path, 2) / name)
    assert settle(tmp_path, CONTENTS) == 1
    assert left(tmp_path) == (["global_step_1"], "1")
    harm(tmp_path / "global_step_1" / name)
    assert settle(tmp_path, CONTENTS) == 0  # the stage begins anew
    assert left(tmp_path) == ([], None)


def test_weights_in_several_files_are_all_there(tmp_path):
    model = checkpoint(tmp_path, 1) / "actor/huggingface"
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"b": np.ones(4)}, model / "model-2.safetensors")
    assert settle(tmp_path, CONTENTS) == 1
    (model / "model-2.safetensors").unlink()
    assert settle(tmp_path, CONTENTS) == 0


def test_what_is_not_saved_is_not_asked_for(tmp_path):
    for path in checkpoint(tmp_path, 1).rglob("optim_*"):
        path.unlink()
    assert settle(tmp_path, ["model", "extra"]) == 1


@pytest.mark.parametrize(("most", "kept"), [(2, [10]), (3, [9, 10]), (1, [10]), (None, [2, 9, 10])])
def test_the_one_that_was_gone_on_from_makes_room_as_well(tmp_path, most, kept):
    """veRL counts those alone that its own process has saved; a resumed stage would keep one more."""
    for step in (9, 10, 2):
        checkpoint(tmp_path, step)
    make_room(tmp_path, most)
    assert left(tmp_path)[0] == sorted(f"global_step_{step}" for step in kept)
    make_room(tmp_path / "none", most)
