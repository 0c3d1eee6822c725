"""How time and memory of `make annotate` grow with the input, on made-up dialogues and with a stand-in.

    python -m bench.annotate_memory OUT_DIR [--utterances 10000 100000 1000000]

Every size runs in two processes of its own, as for a user: one asks (as a stage's process: reading, prompts,
fitting by a tokenizer, keeping the answers), one does all else (the first look, tables, page). The stand-in
takes the checkpoint's place and no time; peak memory is what the kernel reports. Writes
OUT_DIR/annotate_memory.csv.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rewards.labels import LABELS

SIZES = [10_000, 100_000, 1_000_000]
COLUMNS = ["utterances", "seconds", "utterances_per_second", "peak_mib_asking", "peak_mib_else", "tables_mib"]
_SPEAKERS = ["Ann", "Bob", "Cyd", "Dee", "Eve"]
_TURNS = 10  # of a dialogue, as many as in MELD
_ANSWER = (
    "<think>That sounds {0}.</think>\n{{'last_emotions': {{'{0}': 0.7, '{1}': 0.3}}, "
    "'my_emotions': {{'joy': 0.8}}, 'my_output': 'So it is.'}}"
)


def write_dialogues(path: Path, utterances: int) -> None:
    """Write a CSV file with so many utterances of 3 to 20 words in dialogues of ten."""
    draw = random.Random(utterances)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5_000)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dialogue_id", "speaker", "text"])
        for i in range(utterances):
            text = " ".join(draw.choices(words, k=draw.randint(3, 20))) + draw.choice(".!?")
            writer.writerow([i // _TURNS, draw.choice(_SPEAKERS), text])


@contextmanager
def stand_in(config: Any, checkpoint: str, sampling: Any) -> Iterator[Any]:
    """Answers at once, by the length of the last line; one of seven answers breaks the rule."""
    labels = LABELS["meld"]

    def answer(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, list[str]]]:
        said = {}
        for row in rows:
            length = len(row["prompt"][-1]["content"])
            text = _ANSWER.format(labels[length % 7], labels[(length + 1) % 7]) if length % 7 else "Well."
            said[row["extra_info"]["row_id"]] = [text]
        yield said

    yield answer


def main() -> int:
    """Command line of the bench, and of the two processes that it starts for every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--utterances", type=int, nargs="+", default=SIZES)
    parser.add_argument("--part", choices=["ask", "else"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        _PARTS[args.part](args.out_dir)
        (args.out_dir / f"peak_{args.part}").write_text(str(_peak_mib()))
        return 0
    args.out_dir.mkdir(parents=True, exist_ok=True)
    print("".join(f"{name:>24}" for name in COLUMNS))
    rows = []
    for size in args.utterances:
        rows.append(measure(size))
        print("".join(f"{rows[-1][name]:>24,}" for name in COLUMNS), flush=True)
    with (args.out_dir / "annotate_memory.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"written to {args.out_dir}")
    return 0


def measure(utterances: int) -> dict[str, float]:
    """One row of `COLUMNS`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _make_input(folder, utterances)
        started = time.monotonic()
        _start("else", folder)  # it starts the one that asks
        seconds = time.monotonic() - started
        asking, rest = (float((folder / f"peak_{part}").read_text()) for part in _PARTS)
        size = sum(path.stat().st_size for path in (folder / "out").glob("annotations.[cj]s*")) / 2**20
    values = [utterances, seconds, utterances / seconds, asking, rest, size]
    return dict(zip(COLUMNS, (round(v, 1) for v in values), strict=True))


def _start(part: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "bench.annotate_memory", str(folder), "--part", part], check=True)


def _peak_mib() -> float:
    """Of this process alone: what getrusage says holds its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _make_input(folder: Path, utterances: int) -> None:
    from recipe.models.tiny import make_tiny

    write_dialogues(folder / "mine.csv", utterances)
    with (folder / "mine.csv").open() as file:
        make_tiny([line for line, _ in zip(file, range(2_000), strict=False)], folder / "model", 1)


def _settings(folder: Path) -> Any:
    """What the command reads of its settings."""
    return OmegaConf.create(
        {
            "run": {"seed": 1, "retries": 0, "name": "run"},
            "prompts": {"dir": "compact"},
            "expert": {"kind": "offline"},
            "personas": {"scope": "dialogue"},
            "trainer": {"experiment_name": ""},
            "data": {"apply_chat_template_kwargs": {}, "max_prompt_length": 1536, "max_response_length": 512},
            "evaluate": {"batch_rows": 256, "samples": 1, "temperature": 0.7},
            "job": {"work": str(folder / "out.work"), "progress": str(folder / "progress")},
        }
    )


def _ask(folder: Path) -> None:
    from recipe.annotation.answer import answer_dialogues

    answer_dialogues(_settings(folder), stand_in)


def _all_else(folder: Path) -> None:
    from data_prep.files import sha256
    from data_prep.own_dialogues.read import look_through
    from recipe.annotate import annotate
    from recipe.annotation.output import output_at
    from recipe.annotation.task import Task, new_task
    from recipe.run.run import Run

    source, labels = folder / "mine.csv", LABELS["meld"]
    found, of = look_through(source, labels, {}), {"file": sha256(source)}
    task, output = (
        new_task(source, labels, {}, found, str(folder / "model"), of),
        output_at(str(folder / "out")),
    )
    (output.work / "run").mkdir(parents=True)
    task.write(output.work)

    def ask(run: Run, task: Task) -> None:
        _start("ask", folder)

    annotate(Run(_settings(folder), output.work / "run"), task, output, "stand-in", ask)


_PARTS = {"ask": _ask, "else": _all_else}


if __name__ == "__main__":
    sys.exit(main())
