"""`make soak`: runs without models, disturbed in every way that a machine has, beside one that is left alone.

`python -m tests.soak [--short] [--folder F]` prints a line for every kind of disturbance and ends with 1 if a
run ended otherwise than the undisturbed one. Power losses and full disks need root, for a loop device and a
tmpfs, and are left out without.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from data_prep.disk import in_words
from recipe.run.flatten import plain
from recipe.run.sft_config import sft_config
from recipe.verify import problems
from tests.soak import bodies, kills

_SEEDS = range(1, 11)
_SIZES_KIB = (300, 600, 900, 1_300, 1_800, 2_300, 2_800, 3_300, 3_800)


class Soak:
    """Disturbed runs below a folder, each compared with the undisturbed one.

    Args:
        folder: for all of them.
        short: as `tests/programs` wants it: no pages, fewer kills.
    """

    def __init__(self, folder: Path, short: bool):
        self.folder, self.short, self.failed = folder, short, 0
        self.config = bodies.configuration(folder)
        self.expected: dict[str, Any] = {}
        (
            plain(self.config),
            sft_config(self.config.sft),
        )  # their parsers warm up once, and not in every attempt

    def work(self, root: Path, iterations: int = bodies.ITERATIONS) -> Callable[[], None]:
        """What an attempt at a run below ``root`` does."""
        config: DictConfig = self.config.copy()
        with open_dict(config):
            config.run.root, config.flywheel.iterations = str(root), iterations
        text = OmegaConf.to_yaml(config)
        return lambda: kills.train(config, text, pages=not self.short)

    def whole(self, root: Path, log: Path, iterations: int = bodies.ITERATIONS) -> None:
        """A run that nobody disturbs."""
        if kills.attempt(self.work(root, iterations), lambda *_: False, log):
            raise AssertionError(f"the undisturbed attempt failed:\n{log.read_text()[-3000:]}")

    def line(self, what: str, root: Path | None, said: str) -> None:
        """Compare a run with the undisturbed one, and print how it went."""
        run = (root or self.folder) / "soak"
        found = kills.outcome(run) if root else self.expected
        names = found.keys() | self.expected.keys()
        wrong = sorted(name for name in names if found.get(name) != self.expected.get(name))
        wrong += problems(run)
        self.failed += bool(wrong)
        verdict = f"DIFFERS: {', '.join(map(str, wrong[:5]))}" if wrong else "as undisturbed, to the last bit"
        print(f"{what:<34} {said:<28} {verdict}", flush=True)


def soak(all_of_it: Soak) -> int:
    """All disturbances, one after the other."""
    folder, log = all_of_it.folder, all_of_it.folder / "log.txt"
    all_of_it.whole(folder, log)
    all_of_it.expected = kills.outcome(folder / "soak")
    all_of_it.line("undisturbed", None, "")

    places = kills.AroundCommits(few=True) if all_of_it.short else kills.every_operation
    root = _sub(folder, "killed")
    found = kills.killed_at_every(places, all_of_it.work(root), root / "log.txt")
    all_of_it.line("killed once at every place", root, f"{len(found)} kills")

    for seed in _SEEDS if not all_of_it.short else _SEEDS[:1]:
        root = _sub(folder, f"random-{seed}")
        mean = 150 if all_of_it.short else 50
        count = kills.killed_at_random(seed, mean, all_of_it.work(root), root / "log.txt")
        all_of_it.line(f"killed at random, seed {seed}", root, f"{count} kills")

    root = _sub(folder, "before")
    all_of_it.whole(root, log, bodies.ITERATIONS - 1)
    moved = root.rename(folder / "after")
    all_of_it.whole(moved, log)
    all_of_it.line("moved, then one iteration more", moved, "")
    if not all_of_it.short:
        if os.geteuid() == 0:
            power_losses(all_of_it)
            full_disks(all_of_it)
        else:
            print("power losses and full disks are left out: they need root")
        ten_iterations(all_of_it)
    return min(all_of_it.failed, 1)


def _sub(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


# ---- power losses ----


def power_losses(all_of_it: Soak) -> None:
    """Kill, take what has reached the device, and go on from that: what was not synced is lost."""
    root = _sub(all_of_it.folder, "power")
    image, seen, losses = root / "image", root / "places.txt", 0
    with image.open("wb") as file:
        file.truncate(256 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    seen.touch()
    while True:
        with _mounted(image, root / "disk") as disk:
            status = _attempt_once(all_of_it, disk, seen, root / "log.txt")
            shutil.copyfile(image, root / "lost")  # the device as it is now, before anything is written back
            if status == 0:
                all_of_it.line("power lost around every commit", disk, f"{losses} losses")
                return
        if status != -9:
            print(f"power loss {losses}: it cannot go on: {(root / 'log.txt').read_text()[-2000:]}")
            all_of_it.failed += 1
            return
        losses += 1
        (root / "lost").replace(image)


def _attempt_once(all_of_it: Soak, disk: Path, told: Path, log: Path) -> int:
    places, seen = kills.AroundCommits(), set(told.read_text().splitlines())
    handle = os.open(told, os.O_WRONLY | os.O_APPEND)

    def judge(event: str, path: str) -> bool:
        place = places(event, path)
        if place is None or place in seen:
            return False
        os.write(handle, f"{place}\n".encode())
        return True

    try:
        return kills.attempt(all_of_it.work(disk), judge, log)
    finally:
        os.close(handle)


@contextmanager
def _mounted(image: Path, where: Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,commit=300", image, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


# ---- full disks ----


def full_disks(all_of_it: Soak) -> None:
    """Runs on a disk that is too small, which then grows."""
    for size in _SIZES_KIB:
        root = _sub(all_of_it.folder, f"full-{size}")
        disk, log = _sub(root, "disk"), root / "log.txt"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
        try:
            status = kills.attempt(_in_one_line(all_of_it.work(disk), disk), lambda *_: False, log)
            said = log.read_text().splitlines()[-1]
            if status and not said.startswith("error: "):
                print(f"full disk of {size} KiB: no line but a traceback: {said}")
                all_of_it.failed += 1
            subprocess.run(["mount", "-o", "remount,size=512M", disk], check=True)
            all_of_it.whole(disk, log)
            how = "stopped" if status else "it was enough"
            all_of_it.line(f"full disk of {size} KiB, then grown", disk, how)
        finally:
            subprocess.run(["umount", disk], check=True)


def _in_one_line(work: Callable[[], None], folder: Path) -> Callable[[], None]:
    """As `recipe.main` does."""

    def said() -> None:
        try:
            work()
        except Exception as error:
            if not (words := in_words(error, folder)):
                raise
            print(f"error: {words}", flush=True)
            os._exit(1)

    return said


# ---- ten iterations ----


def ten_iterations(all_of_it: Soak) -> None:
    """A kill in each of ten iterations; what grows although it should not?"""
    root, before = _sub(all_of_it.folder, "ten"), len(os.listdir(tempfile.gettempdir()))
    for k in range(1, 11):
        kills.killed_at_random(k, 200, _counting_handles(all_of_it.work(root, k), root), root / "log.txt")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
        run = root / "soak"
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) / 2**20
        left = [
            p for p in run.rglob("*") if p.name == "checkpoints" or p.suffix == ".part" or p.suffix == ".work"
        ]
        more = len(os.listdir(tempfile.gettempdir())) - before
        handles = (root / "handles").read_text()
        print(
            f"iteration {k:>2}: peak {peak:,.0f} MiB, {handles} handles, run {size:.1f} MiB, {len(left)} "
            f"checkpoints and parts left, {more:+d} in {tempfile.gettempdir()}",
            flush=True,
        )
        all_of_it.failed += bool(left)
    all_of_it.failed += bool(list(problems(root / "soak")))


def _counting_handles(work: Callable[[], None], root: Path) -> Callable[[], None]:
    def counted() -> None:
        work()
        (root / "handles").write_text(str(len(os.listdir("/proc/self/fd"))))

    return counted


def main() -> int:
    """Command line of `make soak`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer kills, no pages")
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        status = soak(Soak(args.folder or Path(folder), args.short))
    print(f"{'FAILED' if status else 'passed'} in {time.monotonic() - started:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
