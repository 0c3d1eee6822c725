"""`make smoke-gpu`: one small turn on a real GPU in about ten minutes, and a file to attach to an issue.

`python -m recipe.smoke_gpu [MODEL=...] [hydra overrides]`. SFT, RL of three steps with a weight sync after
each, ended after the first and resumed, export and evaluation, through the very commands that people type.
What the GPU did is held against the CPU where that can be done: the advantages of every step are computed
again here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from advantage.self_grpo import self_grpo_advantages
from data_prep.files import write_json
from recipe.run import gpu_checks, versions
from recipe.run.files import read_json, read_metrics, read_state
from recipe.run.usage import read_usage

#: Of RL; the run is ended when the first of them is saved.
STEPS = 3
#: What the result has to reach: the correlation of vLLM's and the actor's token probabilities in bfloat16,
#: and the largest difference of an advantage, whose inputs are float32.
LEAST_AGREEMENT, MOST_DIFFERENCE = 0.99, 1e-3
#: veRL's name of that correlation.
AGREEMENT = "training/rollout_actor_probs_pearson_corr"


def command(arguments: Sequence[str], name: str) -> list[str]:
    """The run, as `recipe.main` is told of it; the user's own overrides come last."""
    model = next((a for a in arguments if a.startswith("MODEL=")), "MODEL=SmolLM2-135M")
    rest = [a for a in arguments if not a.startswith("MODEL=")]
    # smoke_llm's rates are meant for whole weights: with 3e-4 adapters have not learnt the form in four
    # epochs, with 3e-3 they give the same answer to everyone.
    adapters = [
        "sft.optim.lr=1e-3", "sft.trainer.total_epochs=8", "actor_rollout_ref.actor.optim.lr=1e-4",
    ]  # fmt: skip
    return [
        sys.executable, "-m", "recipe.main", model, f"NAME={name}", "hardware=1gpu", "experiment=smoke_llm",
        "expert=offline", "flywheel.iterations=1", "flywheel.turns=1", "train_rows=64", "test_rows=16",
        f"trainer.total_training_steps={STEPS}", "trainer.total_epochs=3", "trainer.save_freq=1",
        "evaluate.stages=[cold,retrained]",
        *(adapters if "hardware=1gpu_lora" in rest else []), *rest,
    ]  # fmt: skip


def train(arguments: Sequence[str], folder: Path) -> None:
    """Do the run, ended once in the middle of RL and resumed.

    Raises:
        subprocess.CalledProcessError: a command ended with another status than 0.
    """
    asked = command(arguments, folder.name)
    reached = folder / "iter_1/rl.work/checkpoints/latest_checkpointed_iteration.txt"
    # Where this runs in the background (nohup, `&`), Ctrl-C is ignored, and so it would be by the run.
    first = subprocess.Popen(asked, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        while first.poll() is None and not (reached.exists() and reached.read_text().strip()):
            time.sleep(0.5)
    finally:
        ended = first.poll() is None
        if ended:
            first.send_signal(signal.SIGINT)  # as Ctrl-C does: the run ends all that it has started
            first.wait()
    if not ended and first.returncode:
        raise subprocess.CalledProcessError(first.returncode, asked)
    subprocess.run([*asked, "run.resume=true"], check=True)


def table(folder: Path) -> list[dict[str, Any]]:
    """A line per step of RL, and one for each other stage, with its last step.

    Returns:
        ``stage``, ``step``, ``tokens_per_second`` of a GPU (a stage's without the wait for its first step),
        ``seconds``, ``memory_gib`` (the most that PyTorch reserved), ``agreement``; None where a stage does
        not say.
    """
    metrics = read_metrics(folder)
    return [
        line
        for stage, entries in metrics.items()
        if entries
        for line in (_steps(stage, entries) if stage.endswith("/rl") else [_whole(folder, stage, entries)])
    ]


def _steps(stage: str, entries: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        data = entry["data"]
        yield {
            "stage": stage, "step": entry["step"], "tokens_per_second": data.get("perf/throughput"),
            "seconds": data.get("timing_s/step"), "memory_gib": _memory([entry]),
            "agreement": data.get(AGREEMENT),
        }  # fmt: skip


def _whole(folder: Path, stage: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = read_state(folder).get(stage, {}).get("seconds")
    usage = read_usage(folder / stage / "usage.json")
    before, after = usage.get("to_first_step"), usage.get("after_last_step")
    tokens, rate = sum(entry["data"].get("train/global_tokens", 0) for entry in entries[1:]), None
    if tokens and seconds is not None and before is not None and after is not None:
        rate = tokens / max(seconds - before - after, 1e-9)
    return {
        "stage": stage, "step": entries[-1]["step"], "tokens_per_second": rate, "seconds": seconds,
        "memory_gib": _memory(entries), "agreement": None,
    }  # fmt: skip


def _memory(entries: Sequence[dict[str, Any]]) -> float | None:
    found = (v for e in entries for k, v in e["data"].items() if k.endswith("perf/max_memory_reserved_gb"))
    return max(found, default=None)


def advantages(folder: Path) -> tuple[float, float]:
    """The largest difference of an advantage that the actor was given from Eq. 13, computed here on the CPU
    from the recorded rewards; and the largest advantage.

    Raises:
        ValueError: no rollouts were recorded.
    """
    paths = sorted(folder.glob("iter_*/rl/rollouts/step_*.parquet"))
    if not paths:
        raise ValueError(f"{folder} holds no rollouts")
    differences, sizes = zip(*_compared(paths), strict=True)
    return max(differences), max(sizes)


def _compared(paths: Sequence[Path]) -> Iterator[tuple[float, float]]:
    for path in paths:
        rows = pq.read_table(path, columns=["uid", "score", "r2", "lam", "advantage"]).to_pylist()
        rewards, secondary, groups = ([row[name] for row in rows] for name in ("score", "r2", "uid"))
        found = self_grpo_advantages(rewards, secondary, groups, rows[0]["lam"])
        given = [row["advantage"] for row in rows]
        yield max(abs(float(a) - b) for a, b in zip(found, given, strict=True)), max(map(abs, given))


def findings(folder: Path) -> dict[str, Any]:
    """What the run shows, and what of it is not as it should be (``wrong``, empty if all is well)."""
    lines, (difference, largest) = table(folder), advantages(folder)
    agreements = [line["agreement"] for line in lines if line["agreement"] is not None]
    log = (folder / "iter_1/rl/log.txt").read_text(errors="replace")
    wrong = []
    if not agreements or min(agreements) < LEAST_AGREEMENT:
        wrong.append(
            f"vLLM and the actor agree to {min(agreements, default=None)}, less than {LEAST_AGREEMENT}"
        )
    if difference > MOST_DIFFERENCE:
        wrong.append(f"an advantage differs by {difference:.2g} from the CPU's")
    if not largest:
        wrong.append(
            "every advantage is 0, so RL moved nothing: the cold start has not learnt to keep the rule "
            "(sft.optim.lr, sft.trainer.total_epochs)"
        )
    if "setting global step to" not in log:
        wrong.append("RL was not resumed from a checkpoint")
    scores = {name: read_json(folder / f"eval/{name}/summary.json") for name in ("cold", "retrained_1")}
    wrong += [f"eval/{name} is missing" for name, summary in scores.items() if summary is None]
    return {"steps": lines, "advantage_difference": difference, "evaluation": scores, "wrong": wrong}


def render(found: dict[str, Any]) -> str:
    """The table as text for a terminal."""
    shown = [f"{'stage':<18}{'step':>6}{'tokens/s':>12}{'seconds':>10}{'GiB':>8}{'agreement':>12}"]
    for line in found["steps"]:
        numbers = (
            ("tokens_per_second", 12, 0),
            ("seconds", 10, 1),
            ("memory_gib", 8, 1),
            ("agreement", 12, 5),
        )
        cells = ("–".rjust(w) if line[n] is None else f"{line[n]:>{w},.{d}f}" for n, w, d in numbers)
        shown.append(f"{line['stage']:<18}{line['step']:>6}" + "".join(cells))
    shown.append(f"advantages: {found['advantage_difference']:.1e} at most from the CPU's")
    return "\n".join(shown + [f"WRONG  {fault}" for fault in found["wrong"]])


def main() -> int:
    """Command line of `make smoke-gpu`."""
    try:
        machine = gpu_checks.probe()
        if not machine.gpus:
            raise gpu_checks.GpuError(
                f"make smoke-gpu needs an NVIDIA GPU and the profile of one (make setup PROFILE=gpu): "
                f"{machine.problem or 'there is none'}"
            )
        os.environ.pop("RAY_ADDRESS", None)  # this machine is what is tried
        folder = Path("runs") / f"smoke-gpu-{time.strftime('%Y%m%d-%H%M%S')}"
        started = time.time()
        train(sys.argv[1:], folder)
        found = findings(folder)
    except (ValueError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(render(found))
    report = {
        "gpus": [f"{gpu.name}, {gpu.total / 2**30:.1f} GiB" for gpu in machine.gpus],
        "cuda": machine.cuda,
        "flash_attention": machine.flash_attention,
        "versions": versions.collect(),
        "minutes": round((time.time() - started) / 60, 1),
        **found,
    }
    path = write_json(folder / "smoke-gpu.json", report)
    print(f"written to {path}: attach it to an issue, whether all is well or not")
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
