"""`make train`: compose the configuration, check everything that can be checked, run the flywheel.

`python -m recipe.main [MODEL=...] [RAW_DIR=...] [NAME=...] [hydra overrides]`; `--cfg job` prints
the composed configuration.
"""

from __future__ import annotations

import os
import sys

import hydra
from omegaconf import DictConfig

from recipe.shortcuts import expand


@hydra.main(version_base=None, config_path="../conf", config_name="self_emo")
def _train(config: DictConfig) -> None:
    from recipe.preflight import PreflightError, check
    from recipe.process import StageError

    try:
        folder = check(config)
        from recipe.flywheel import Flywheel
        from recipe.report import print_table

        results = Flywheel(config, folder).run()
    except (PreflightError, StageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f'stopped; go on with the same command and NAME={config.run.name} ARGS="run.resume=true"')
        sys.exit(130)
    print_table(results)
    print(f"report: {folder / 'report.html'}")


def main() -> None:
    """Entry point; turns the shortcuts of the command line into Hydra overrides first."""
    sys.argv[1:] = expand(sys.argv[1:], os.environ)
    _train()


if __name__ == "__main__":
    main()
