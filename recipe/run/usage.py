"""What a stage takes in time and memory over all of its attempts, those that were killed included."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil

from data_prep.files import write_json
from recipe.run.files import read_json

#: Seconds after which what was measured so far is written; a killed attempt loses no more.
_INTERVAL = 10.0


def read_usage(path: Path) -> dict[str, Any]:
    """What attempts before this one took; a broken file costs their times and nothing else."""
    try:
        return read_json(path, {})
    except ValueError as error:
        print(f"note: {error.args[0].partition(';')[0]}; times start anew", flush=True)
        return {}


class Usage:
    """Measures one attempt and adds it to those before; ``usage.json`` holds the sum.

    Its fields: ``seconds`` of all ``attempts``, ``peak_gib`` the most of them by which the memory in use of
    the whole machine grew since the start (what a warm process has imported is in use by then); of the
    last attempt alone ``to_first_step`` and ``after_last_step``, seconds, None before.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path, self.before = path, read_usage(path)
        self.started = self.written = time.monotonic()
        self.free = self.lowest = psutil.virtual_memory().available
        self.steps: list[float] = []

    def look(self, step: bool) -> None:
        """Measure now; ``step``: one has just ended."""
        self.lowest = min(self.lowest, psutil.virtual_memory().available)
        if step:
            self.steps.append(time.monotonic())
        if time.monotonic() - self.written > _INTERVAL:
            self.write()

    def write(self) -> None:
        """Write the sum as it is now."""
        self.written, steps = time.monotonic(), self.steps
        found: dict[str, Any] = {
            "seconds": round(self.before.get("seconds", 0.0) + self.written - self.started, 1),
            "attempts": self.before.get("attempts", 0) + 1,
            "to_first_step": round(steps[0] - self.started, 1) if steps else None,
            "after_last_step": round(self.written - steps[-1], 1) if steps else None,
            "peak_gib": max(self.before.get("peak_gib", 0.0), round((self.free - self.lowest) / 2**30, 2)),
        }
        write_json(self.path, found)
