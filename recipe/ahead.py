"""`make data MODEL=...`: what a run's experts write, asked ahead of it, so that no GPU waits for them.

`python -m recipe.ahead MODEL=... [RAW_DIR=...] [NAME=...] [hydra overrides]` does the steps `data` and
`iter_0/buffer` of a run alone, which need neither a model nor a GPU. Every answer is kept, and a run of the
same settings that finds the same `SELF_EMO_CACHE` asks for none of them again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig

from data_prep.disk import in_words
from data_prep.files import cache_dir
from recipe.main import explain
from recipe.run.shortcuts import CONF, expand


def configured(arguments: Sequence[str]) -> DictConfig:
    """The configuration that `make train` would have with the same words, but for the hardware.

    Raises:
        ValueError: it names no experts that can be asked without the run's GPUs.
    """
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("self_emo", overrides=expand(["hardware=cpu", *arguments], os.environ))
    if config.expert.kind != "endpoint":
        raise ValueError(
            f"expert.kind={config.expert.kind}: there is nobody to be asked ahead of a run. Set the keys of "
            'the paper\'s experts (ARK_API_KEY, DEEPSEEK_API_KEY), or name others: ARGS="expert=endpoint"'
        )
    config.run.name = config.run.name or f"data-{config.base.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config


def ask(config: DictConfig) -> Path:
    """Personas, soft labels where the settings want them, and the cold start's responses; returns the folder.

    Raises:
        ValueError: as `recipe.run.preflight.check` and the steps.
    """
    from recipe.run.lock import locked
    from recipe.run.preflight import check
    from recipe.run.run import Run
    from recipe.steps import data, seed

    folder = check(config, training=False, model=False)
    with locked(folder):
        run = Run(config, folder)
        run.do("data", data.make)
        run.do("iter_0/buffer", seed.fill, ("data",))
    return folder


def main() -> int:
    """Command line of `make data MODEL=...`."""
    folder = None
    try:
        folder = ask(configured(sys.argv[1:]))
    except HydraException as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not (said := in_words(error, folder)):
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command asks for what is missing")
        return 130
    print(
        f"{folder}: asked. A run with the same words asks for none of it again, where it finds {cache_dir()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
