"""How long it takes until the settings are composed, beside veRL's own command.

    python -m bench.start_speed [--times 3]

Both print their configuration (`--cfg job`) in processes of their own, in turn, so that other load on the
machine meets both; the best of each is compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

COMMANDS = ("recipe.main", "verl.trainer.main_ppo")


def seconds_of(module: str) -> float:
    """Wall time of ``python -m <module> --cfg job``."""
    started = time.monotonic()
    environment = os.environ | {"VERL_PLATFORM": os.environ.get("VERL_PLATFORM", "cpu")}
    command = [sys.executable, "-m", module, "--cfg", "job"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    return time.monotonic() - started


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    turns = [[seconds_of(c) for c in COMMANDS] for _ in range(parser.parse_args().times)]
    ours, theirs = (min(column) for column in zip(*turns, strict=True))
    print(f"ours {ours:.2f} s, veRL's own {theirs:.2f} s, ratio {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
