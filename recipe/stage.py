"""One stage in a process of its own: `python -m recipe.stage <sft|rl|evaluate> <config.yaml>`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from omegaconf import OmegaConf


def main() -> None:
    """Run the stage that the command line names, with the configuration that the flywheel wrote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["sft", "rl", "evaluate"])
    parser.add_argument("config", type=Path)
    args = parser.parse_args()
    config = OmegaConf.load(args.config)
    os.environ.update({key: str(value) for key, value in config.get("env", {}).items()})
    work = args.config.parent
    os.environ["VERL_FILE_LOGGER_PATH"] = str(work / "metrics.part.jsonl")
    os.environ.setdefault("TENSORBOARD_DIR", str(work / "tensorboard"))  # used if trainer.logger names it
    os.environ.setdefault("WANDB_DIR", str(work))
    # Imported only now: veRL reads the environment when it is imported.
    from recipe import stages
    from recipe.nodes import ClusterError
    from recipe.process import REFUSED

    try:
        getattr(stages, f"run_{args.stage}")(config)
    except ClusterError as error:
        print(f"error: {error}", flush=True)
        sys.exit(REFUSED)


if __name__ == "__main__":
    sys.exit(main())
