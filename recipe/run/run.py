"""One run: its configuration, its folder, and how a step of it is done once and for all.

Every step works in `<step>.work` and commits by renaming it to `<step>`; a step whose folder is there is
done. Nothing is remembered in a process, so a run goes on wherever it was stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig, open_dict

from data_prep.experts.client import Settings
from data_prep.files import write_json
from data_prep.prompt import PromptTemplates, load_templates
from recipe.models.self_expert import experts_of
from recipe.run.files import read_json, read_state
from recipe.run.process import WorkerLostError
from recipe.run.ray_nodes import check_cluster


class Run:
    """A run that is being made.

    Args:
        config: the composed configuration.
        folder: of the run; everything that a step reads or leaves lies below it.
    """

    def __init__(self, config: DictConfig, folder: Path):
        self.config = config
        self.folder = folder
        self.templates: PromptTemplates = load_templates(config.prompts.dir)
        self.experts: Settings | None = experts_of(config)

    @cached_property
    def base(self) -> Path:
        """The base model's folder or hub id, once the step `base` is done."""
        return Path(read_json(self.folder / "base/base.json")["path"])

    def do(self, name: str, step: Callable[[Run, Path], None]) -> None:
        """Do a step that is not done yet.

        Args:
            name: of the step, and of its folder below the run's.
            step: is given the run and the folder to work in; called again after a lost worker.
        """
        target = self.folder / name
        if target.exists():
            return
        work = target.with_name(target.name + ".work")
        work.mkdir(parents=True, exist_ok=True)
        say(name)
        with self.timed(name, work):
            self.retried(lambda: step(self, work))
            work.rename(target)

    @contextmanager
    def timed(self, name: str, work: Path) -> Iterator[None]:
        """Note in `state.json` what the block took, attempts before this one included."""
        started = time.time() - read_json(work / "usage.json", {}).get("seconds", 0.0)
        yield
        steps = read_state(self.folder)
        steps[name] = {"seconds": round(time.time() - started, 1), "finished": time.time()}
        write_json(self.folder / "state.json", {"steps": steps})

    def retried(self, work_on: Callable[[], None]) -> None:
        """Do something again that lost a worker or a node; RL goes on from its last checkpoint."""
        for left in reversed(range(self.config.run.retries + 1)):
            try:
                return work_on()
            except WorkerLostError as error:
                if not left:
                    raise
                say(f"{error}; trying again")
                if address := os.environ.get("RAY_ADDRESS"):
                    trainer, patience = self.config.trainer, self.config.run.rejoin
                    check_cluster(address, trainer.nnodes, trainer.n_gpus_per_node, patience)

    def stage_config(self, experiment: str) -> DictConfig:
        """A copy of the configuration for a stage, which the trackers know as ``experiment`` of this run."""
        config = self.config.copy()
        with open_dict(config):
            config.trainer.experiment_name = f"{self.folder.name}-{experiment}"
        return config


def say(text: str) -> None:
    """A line of the run's course, with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
