"""Time and memory of the selection (Algorithm 1, lines 11-16), on made-up rollouts of 4 KB.

    python -m bench.selection [--rollouts 90000 180000 360000]

360,000 are three epochs of the paper's 15,000 prompts, eight rollouts each. Every size runs in a process of
its own. The peak is without what the process held before it began, and with the old buffer, the best rollouts
and the new buffer, which is the result.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = [90_000, 180_000, 360_000]
N, BATCH, EPOCHS = 8, 64, 3
_RESPONSE = 4_096
MAP = {"joy": 1.0}


def write_run(folder: Path, rollouts: int) -> int:
    """A buffer and RL steps whose prompts come up three times; returns the number of prompts."""
    from data_prep.prompt import load_templates, render
    from data_prep.rows import make_row, write_rows
    from rewards.labels import LABELS

    templates, labels, draw = load_templates("compact"), LABELS["meld"], random.Random(1)
    prompts = rollouts // N // EPOCHS
    personas = [{"name": name, "profile": f"{name} is {name}."} for name in ("Ann", "Bob")]

    def row(i: int) -> dict:
        context = [{"speaker": ("Ann", "Bob")[j % 2], "text": f"Line {j} of {i}."} for j in range(8)]
        return make_row(
            corpus="meld", prompt=render(context, personas[0], labels, templates), row_id=f"meld:{i}:8",
            ground_truth={labels[i % 7]: 1.0}, split="train", dialogue_id=str(i), utterance_id="8",
            context=context, persona=personas[0], personas=personas, labels=labels,
        )  # fmt: skip

    write_rows((row(i) for i in range(prompts)), folder / "buffer.parquet")
    thoughts = [
        "".join(draw.choices("abcdefghij klmnop qrst uvwxyz ", k=_RESPONSE - 150)) for _ in range(256)
    ]
    (folder / "rollouts").mkdir()
    step = 0
    for _ in range(EPOCHS):
        for start in range(0, prompts - BATCH + 1, BATCH):
            step += 1
            found = []
            for i in range(start, start + BATCH):
                for index in range(N):
                    said = json.dumps(
                        {"last_emotions": MAP, "my_emotions": MAP, "my_output": f"Reply to {i}."}
                    )
                    found.append(
                        {
                            "uid": f"{step}-{i}", "row_id": f"meld:{i}:8", "rollout_index": index,
                            "data_source": "meld", "labels": list(labels),
                            "response": f"<think>{draw.choice(thoughts)}</think>\n{said}",
                            "score": draw.random() * 1.1, "iou": 0.5, "acc": 1.0, "valid": 1.0, "reason": "",
                            "pred": "joy", "parsed": said, "twin": 0.5, "top_weight": 1.0, "named": 1,
                            "r2": 1 / 3, "lam": 0.1, "step": step, "advantage": 0.0,
                        }
                    )  # fmt: skip
            pq.write_table(pa.Table.from_pylist(found), folder / f"rollouts/step_{step:06d}.parquet")
    return prompts


def select(folder: Path) -> None:
    """Print CPU seconds and peak memory in MiB."""
    from data_prep.prompt import load_templates
    from data_prep.rows import read_rows, write_rows
    from recipe.buffer import best_rollouts, grow, read_rollouts, self_play_row

    templates, started = load_templates("compact"), time.process_time()
    before = psutil.Process().memory_info().rss / 2**20
    rows = read_rows(folder / "buffer.parquet")
    best = best_rollouts(read_rollouts(folder / "rollouts"), 0.4)
    by_id = {row["extra_info"]["row_id"]: row for row in rows}
    played = [self_play_row(by_id[i], r, templates, iteration=1, model="m") for i, r in best.items()]
    mix = {"original": 15_000, "self_play": 8_000}
    grown, *_ = grow(
        rows, best, [row for row in played if row], iteration=1, model="m", min_reward=0.4, same_reply=1.0,
        mix=mix, seed=1,
    )  # fmt: skip
    write_rows(grown, folder / "grown.parquet")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(time.process_time() - started, peak)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, nargs="+", default=SIZES)
    parser.add_argument("--select", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.select:
        select(args.select)
        return 0
    print(f"{'rollouts':>10}{'prompts':>10}{'CPU s':>8}{'us/rollout':>12}{'peak MiB':>10}")
    for size in args.rollouts:
        with tempfile.TemporaryDirectory() as name:
            prompts = write_run(Path(name), size)
            command = [sys.executable, "-m", "bench.selection", "--select", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        seconds, peak = map(float, done.stdout.split())
        line = f"{size:>10,}{prompts:>10,}{seconds:>8.1f}{seconds / size * 1e6:>12.1f}{peak:>10,.0f}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
