"""One run: its configuration, its folder, and how a step of it is done once and for all.

Every step works in `<step>.work` and commits by renaming it to `<step>`; a step whose folder is there is
done. Nothing is remembered in a process, so a run goes on wherever it was stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig, open_dict

from data_prep.experts.client import Settings
from data_prep.files import commit, drop_parts, write_json
from data_prep.prompt import PromptTemplates, load_templates
from recipe.models.self_expert import experts_of
from recipe.run import manifest
from recipe.run.files import base_of, read_state
from recipe.run.process import WorkerLostError
from recipe.run.ray_nodes import check_cluster
from recipe.run.usage import read_usage


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
        self._sound: set[str] = set()  # steps whose files this process has seen to be as they were left

    @cached_property
    def base(self) -> Path:
        """The base model's folder or hub id, once the step `base` is done."""
        return base_of(self.folder)

    def do(self, name: str, step: Callable[[Run, Path], None], reads: Sequence[str] = ()) -> None:
        """Do a step that is not done yet.

        Args:
            name: of the step, and of its folder below the run's.
            step: is given the run and the folder to work in; called again after a lost worker.
            reads: the steps that it builds on, which must be as they were left.

        Raises:
            IntegrityError: one of them is not.
        """
        target = self.folder / name
        if target.exists():
            return
        self.see_sound(reads)
        work = target.with_name(target.name + ".work")
        work.mkdir(parents=True, exist_ok=True)
        say(name)
        seconds = _stopwatch(work)
        self.retried(lambda: step(self, work))
        drop_parts(work)
        took = {"seconds": seconds(), "finished": time.time()}
        manifest.write(work, self.folder, name, reads, took)
        commit(work, target)
        self._sound.add(name)
        self._note({name: took})

    def see_sound(self, steps: Iterable[str]) -> None:
        """See that steps are as they were left before anything is built on them; once in a process.

        Raises:
            IntegrityError: one of them is not.
        """
        for step in steps:
            if step not in self._sound:
                manifest.require(self.folder, step)
                self._sound.add(step)

    @contextmanager
    def timed(self, name: str, work: Path) -> Iterator[None]:
        """Note in `state.json` what the block took, attempts before this one included."""
        seconds = _stopwatch(work)
        yield
        self._note({name: {"seconds": seconds(), "finished": time.time()}})

    def note_finished(self) -> None:
        """Have `state.json` name every step that is done: a kill may have come between the two."""
        path = self.folder / "state.json"
        try:
            known = read_state(self.folder)
        except ValueError as error:
            say(f"{error.args[0].partition(';')[0]}; it is written again")
            path.unlink()
            known = {}
        made = (manifest.read(self.folder / step) for step in manifest.steps_of(self.folder))
        if missing := {m["step"]: m["took"] for m in made if m["step"] not in known}:
            self._note(dict(sorted(missing.items(), key=lambda step: step[1]["finished"])))

    def _note(self, steps: dict[str, dict[str, float]]) -> None:
        write_json(self.folder / "state.json", {"steps": read_state(self.folder) | steps})

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


def _stopwatch(work: Path) -> Callable[[], float]:
    """Seconds from now on, with those of earlier attempts; setting the clock does not change them."""
    before, started = read_usage(work / "usage.json").get("seconds", 0.0), time.monotonic()
    return lambda: round(before + time.monotonic() - started, 1)


def say(text: str) -> None:
    """A line of the run's course, with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
