"""`make train`: compose the configuration, check everything that can be checked, run the flywheel.

`python -m recipe.main [MODEL=...] [RAW_DIR=...] [NAME=...] [hydra overrides]`; `--cfg job` prints
the composed configuration.
"""

from __future__ import annotations

import os
import re
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from data_prep.disk import in_words
from data_prep.masking import is_secret, masked_words
from data_prep.setting_types import unknown_setting
from recipe.run.flatten import flatten, plain
from recipe.run.shortcuts import CONF, expand


@hydra.main(version_base=None, config_path="../conf", config_name="self_emo")
def _train(config: DictConfig) -> None:
    from recipe.run import warm_start
    from recipe.run.preflight import PreflightError, check, check_types, discard_empty
    from recipe.run.process import StageError, environment

    folder = None
    try:
        check_types(config)
        warm_start.begin(plain(config), environment())  # its imports take as long as the rest of the check
        folder = check(config)
        from recipe import flywheel
        from recipe.pages.report import print_headline
        from recipe.run.lock import locked
        from recipe.run.run import Run

        with locked(folder):
            flywheel.train(Run(config, folder))
    except (PreflightError, StageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        discard_empty(folder)
        sys.exit(1)
    except Exception as error:
        if not (said := in_words(error, folder)):
            raise
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"stopped; go on with the same command, NAME={config.run.name} and run.resume=true in its ARGS")
        sys.exit(130)
    print_headline(folder)
    print(f"report: {folder / 'report.html'}")


def explain(error: HydraException) -> str:
    """Hydra's complaint about the command line as one line, with the setting that was probably meant.

    Args:
        error: as Hydra raised it while it composed the configuration.
    """
    unknown = re.match(r"Could not override '([^']+)'", str(error))
    if not unknown:
        name = str(getattr(error, "override", "")).partition("=")[0]
        if is_secret(name.rpartition(".")[2]):  # Hydra repeats a part of the value
            return f"{name}: its value cannot be read; put it in quotes of its own"
        return masked_words(" ".join(str(error).split("Config search path")[0].split()))
    with hydra.initialize_config_dir(str(CONF), version_base=None):
        known = flatten(OmegaConf.to_container(hydra.compose("self_emo")))
    return f"{unknown_setting(unknown[1], known)}; `.venv/bin/python -m recipe.main --cfg job` prints all"


def main() -> None:
    """Entry point; turns the shortcuts of the command line into Hydra overrides first."""
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        print(
            "error: a sweep is a loop over `make train`, or `make ablate`; -m is not for runs",
            file=sys.stderr,
        )
        sys.exit(1)
    try:
        sys.argv[1:] = expand(sys.argv[1:], os.environ)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra prints and exits by itself
    try:
        _train()
    except HydraException as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
