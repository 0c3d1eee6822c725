"""How time and memory of `make data` grow with the corpus, on made-up MELD files.

    python -m bench.prepare_memory OUT_DIR [--utterances 10000 100000 1000000]

Every size runs in a process of its own, as the command a user types; peak memory is what the kernel
reports of it. Writes OUT_DIR/prepare_memory.csv and .png.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure

from data_prep.prepare import LEAKAGE_LIMIT
from rewards.labels import LABELS

SIZES = [10_000, 100_000, 1_000_000]
COLUMNS = ["utterances", "seconds", "utterances_per_second", "peak_mib", "parquet_mib"]
_HEADER = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"]
_SPEAKERS = ["Ann", "Bob", "Cyd", "Dee", "Eve"]
_TURNS = 10  # of a dialogue, as many as in MELD
_REST = 1_000  # utterances of dev and of test, whatever the size


def write_corpus(folder: Path, utterances: int) -> None:
    """Write `meld/{train,dev,test}_sent_emo.csv` with so many training utterances of 3 to 20 words."""
    draw = random.Random(utterances)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5_000)]
    (folder / "meld").mkdir(parents=True)
    for split, count in (("train", utterances), ("dev", _REST), ("test", _REST)):
        with (folder / f"meld/{split}_sent_emo.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_HEADER)
            for i in range(count):
                text = " ".join(draw.choices(words, k=draw.randint(3, 20))) + draw.choice(".!?")
                label = draw.choice(LABELS["meld"])
                writer.writerow([i, text, draw.choice(_SPEAKERS), label, "", i // _TURNS, i % _TURNS])


def measure(utterances: int) -> dict[str, float]:
    """One row of `COLUMNS`: the command on a corpus of so many training utterances."""
    with tempfile.TemporaryDirectory() as temporary:
        raw, out = Path(temporary) / "raw", Path(temporary) / "out"
        write_corpus(raw, utterances)
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "data_prep.prepare", "--raw-dir", str(raw), "--out-dir", str(out)],
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"data_prep.prepare failed on {utterances:,} utterances")
        seconds = time.monotonic() - started
        size = sum(path.stat().st_size for path in out.glob("*.parquet"))
    total = utterances + 2 * _REST
    values = [total, round(seconds, 1), round(total / seconds), usage.ru_maxrss / 1024, size / 2**20]
    return dict(zip(COLUMNS, (round(v, 1) for v in values), strict=True))


def draw_curve(rows: list[dict[str, float]], path: Path) -> None:
    """Peak memory and time over utterances."""
    figure = Figure(figsize=(8, 3.2))
    memory, seconds = figure.subplots(1, 2)
    sizes = [row["utterances"] for row in rows]
    memory.semilogx(sizes, [row["peak_mib"] for row in rows], marker="o")
    memory.set_ylim(bottom=0)
    memory.axvline(LEAKAGE_LIMIT, linestyle=":", color="#888")
    memory.set_title(
        "make data: peak memory (MiB)\nleft of the dotted line with the leakage table", fontsize=9
    )
    seconds.loglog(sizes, [row["seconds"] for row in rows], marker="o")
    seconds.set_title("make data: seconds", fontsize=9)
    for axis in (memory, seconds):
        axis.set_xlabel("utterances")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Command line of `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--utterances", type=int, nargs="+", default=SIZES, help="of the training split")
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    print("".join(f"{name:>24}" for name in COLUMNS))
    rows = []
    for size in args.utterances:
        rows.append(measure(size))
        print("".join(f"{rows[-1][name]:>24,}" for name in COLUMNS), flush=True)
    with (args.out_dir / "prepare_memory.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    draw_curve(rows, args.out_dir / "prepare_memory.png")
    print(f"written to {args.out_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
