"""A training step of our CPU engine on two ranks is the step of one rank that has all rows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.unit.recipe.on_verl.platforms.test_cpu_engine import (
    ANSWERS,
    LENGTHS,
    SHARED,
    batch,
    loss,
    made,
    write_model,
)

Rows = dict[str, Sequence[int]]
ROWS: Rows = {"lengths": LENGTHS, "answers": ANSWERS}


@pytest.mark.parametrize(
    ("tied", "rows"), [(True, ROWS), (False, ROWS), (True, SHARED)], ids=["tied", "untied", "shared"]
)
def test_two_ranks_take_the_step_of_one(tied, rows, tmp_path):
    """The output layer of an untied model is sharded, and gathered by us alone; a prompt's answers may lie on
    both ranks."""
    write_model(tmp_path / "model", tied)
    (one, norm_of_one), (two, norm_of_two) = (step_of(ranks, rows, tmp_path) for ranks in (1, 2))
    assert norm_of_two == pytest.approx(norm_of_one, rel=1e-4)  # Adam's first step hides a factor
    assert one.keys() == two.keys() and any("lm_head" in name for name in one) != tied
    for name, weight in one.items():
        assert_close(two[name], weight, rtol=1e-4, atol=1e-4)  # of steps of .01


def step_of(ranks: int, rows: Rows, folder: Path) -> tuple[dict[str, torch.Tensor], float]:
    """The weights after it, and the norm of its gradient."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=rank, args=(i, ranks, rows, folder)) for i in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    return torch.load(folder / f"{ranks}.pt")


def rank(number: int, ranks: int, rows: Rows, folder: Path) -> None:
    """In a process of its own: train on this rank's rows; the first writes the weights."""
    import torch.distributed as dist

    from recipe.on_verl.platforms.cpu_engine import CpuEngine

    store = dist.FileStore(str(folder / f"store{ranks}"), ranks)
    dist.init_process_group("gloo", store=store, rank=number, world_size=ranks)
    engine = made(CpuEngine, folder / "model", fused=True)
    with engine.train_mode():
        mine = {name: values[number::ranks] for name, values in rows.items()}
        given = batch(of_answers=False, dynamic=True, left_out=False, **mine)
        output = engine.train_batch(given, loss_function=loss)
    weights = {name: weight.full_tensor() for name, weight in engine.module.named_parameters()}
    if number == 0:
        torch.save((weights, float(output["metrics"]["grad_norm"])), folder / f"{ranks}.pt")
    dist.destroy_process_group()
