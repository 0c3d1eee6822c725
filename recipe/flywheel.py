"""Algorithm 1 of arXiv:2604.18003, line by line; its numbers stand beside the steps.

     1  original dataset D_0, buffer B <- D_0          4  for k = 1..K
     3  cold start: SFT of pi on D_0                5-10    RL: rollouts, rewards, SELF-GRPO
                                                   11-16    selection: y*, d* = (C_new, Label_new) into B
                                                      14    self-play: d* goes on for some turns
                                                      18    retrain the base model on B
                                                      20  return pi

A step is a file of `recipe.steps`. It is given the steps that it reads, commits by rename, and is not done
again once it is there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from recipe.evaluation.results import read_evaluation
from recipe.pages.report import write_report
from recipe.run import versions
from recipe.run.run import Run
from recipe.steps import base, data, evaluate, rl, seed, select, self_play, sft


def train(run: Run) -> dict[str, Any]:
    """Do every step that is not done yet.

    Returns:
        Checkpoint -> corpus -> measures.
    """
    _begin(run)
    given = ("data", "base")
    run.do("iter_0/buffer", seed.fill, ("data",))  # 1
    run.do("iter_0/sft", sft.cold_start, (*given, "iter_0/buffer"))  # 3
    for k in range(1, run.config.flywheel.iterations + 1):  # 4
        rl_reads = (*given, f"iter_{k - 1}/buffer", f"iter_{k - 1}/sft")
        play_reads = (*rl_reads, f"iter_{k}/rl")
        best_reads = (*play_reads, f"iter_{k}/self_play")
        run.do(f"iter_{k}/rl", partial(rl.train, k=k), rl_reads)  # 5-10
        run.do(f"iter_{k}/self_play", partial(self_play.go_on, k=k), play_reads)  # 14
        run.do(f"iter_{k}/buffer", partial(select.best, k=k), best_reads)  # 11-13, 15-16
        run.do(f"iter_{k}/sft", partial(sft.retrain, k=k), (*given, f"iter_{k}/rl", f"iter_{k}/buffer"))  # 18
    return _results(run)  # 20


def score(run: Run) -> dict[str, Any]:
    """Train nothing: score the base model, or the checkpoints of the run ``evaluate.of``.

    Returns:
        As `train`.
    """
    _begin(run)
    return _results(run)


def _begin(run: Run) -> None:
    versions.record(run.folder)
    run.note_finished()
    run.do("data", data.make)
    evaluate.baselines(run)
    run.do("base", base.make, ("data",))


def _results(run: Run) -> dict[str, Any]:
    evaluate.checkpoints(run)
    write_report(run.folder)
    return read_evaluation(run.folder, "summary")
