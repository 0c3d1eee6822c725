"""Algorithm 1 as a state machine over files.

    data -> iter_0/buffer -> iter_0/sft (cold start)
         -> [iter_k/rl -> iter_k/buffer -> iter_k/sft] for k = 1..K -> eval -> report

Every step works in `<step>.work` and commits by renaming it to `<step>`; a step whose folder is
there is done. Nothing is remembered in a process, so a run goes on wherever it was stopped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from data_prep import personas
from data_prep.card import write_card
from data_prep.cold_start import ask_responses
from data_prep.corpora import read_corpora
from data_prep.experts import cache_dir, settings_of
from data_prep.files import write_json
from data_prep.leakage import leaking_dialogues, overlaps, write_overlaps
from data_prep.offline_expert import NAME as OFFLINE
from data_prep.offline_expert import respond
from data_prep.prepare import SAMPLES, dialogue_rows, prepare
from data_prep.prompt import PromptTemplates, load_templates
from data_prep.rows import read_rows, write_rows
from recipe import models, reuse, versions
from recipe.baselines import BASELINES
from recipe.buffer import draw_mix, draw_record, draw_stratified, grow, read_rollouts
from recipe.evaluate import read_answers, score_answers
from recipe.fit_prompts import fit_rows
from recipe.measures import summarise
from recipe.nodes import check_cluster
from recipe.process import WorkerLostError, run_stage
from recipe.report import write_report
from recipe.run_files import checkpoint_folders, read_evaluation, read_json, read_state
from recipe.sft_config import sft_config

SPLITS = ("train", "dev", "test")


class Flywheel:
    """One run: its configuration, its folder, and the steps between them."""

    def __init__(self, config: DictConfig, folder: Path):
        self.config = config
        self.folder = folder
        self.templates: PromptTemplates = load_templates(config.prompts.dir)
        self.experts = settings_of(config.expert)

    def run(self) -> dict[str, Any]:
        """Do every step that is not done yet.

        Returns:
            Evaluation stage -> corpus -> measures.
        """
        versions.record(self.folder)
        self._step("data", self._prepare_data)
        self._score_baselines()
        self._step("base", self._make_base)
        self._step("iter_0/buffer", self._seed_buffer)
        self._step("iter_0/sft", lambda work: self._sft(work, "iter_0", self.base))
        policy = self.folder / "iter_0/sft/model"
        for k in range(1, self.config.flywheel.iterations + 1):
            self._step(f"iter_{k}/rl", lambda work, k=k, p=policy: self._rl(work, k, p))
            trained = self.folder / f"iter_{k}/rl/model"
            self._step(f"iter_{k}/buffer", lambda work, k=k: self._select(work, k))
            start = self.base if self.config.flywheel.retrain_from == "base" else trained
            self._step(f"iter_{k}/sft", lambda work, k=k, s=start: self._sft(work, f"iter_{k}", s))
            policy = self.folder / f"iter_{k}/sft/model"
        return self._results()

    def score(self) -> dict[str, Any]:
        """Train nothing: score the base model, or the checkpoints of the run ``evaluate.of``.

        Returns:
            As `run`.
        """
        versions.record(self.folder)
        self._step("data", self._prepare_data)
        self._score_baselines()
        self._step("base", self._make_base)
        return self._results()

    def _results(self) -> dict[str, Any]:
        checkpoints = self._checkpoints()
        self._evaluate(checkpoints)
        write_report(self.folder)
        return read_evaluation(self.folder, "summary")

    # ------------------------------------------------------------------ steps

    def _prepare_data(self, work: Path) -> None:
        raw_dir = self.config.raw_dir or SAMPLES
        counts = prepare(raw_dir, work, self.config.corpora, self.config.prompts.dir)
        limits = {"train": self.config.train_rows, "dev": self.config.dev_rows}
        found = overlaps(read_corpora(raw_dir, self.config.corpora))
        write_overlaps(found, work / "leakage.json")
        drop = set()
        if self.config.decontaminate == "drop":
            drop = leaking_dialogues(read_corpora(raw_dir, self.config.corpora))
        for split in SPLITS:
            rows = read_rows(work / f"{split}.parquet")
            if split == "train" and drop:
                rows = [r for r in rows if (r["data_source"], r["extra_info"]["dialogue_id"]) not in drop]
                counts[split]["after_decontamination"] = len(rows)
            if not rows:
                raise ValueError(f"the corpora hold no labelled {split} utterance")
            if split == "test" and self.config.test_rows:
                corpora = sorted({row["data_source"] for row in rows})
                per_corpus = [[r for r in rows if r["data_source"] == corpus] for corpus in corpora]
                rows = [r for part in per_corpus for r in self._drawn(part, self.config.test_rows)]
            else:
                rows = self._drawn(rows, limits.get(split))
            write_rows(rows, work / f"{split}.parquet")
            counts[split]["used"] = len(rows)
        if self.experts:
            self._ask_personas(work)
        write_card(work, raw_dir, self.config.corpora, self.config.prompts.dir)
        write_json(work / "counts.json", counts)

    def _ask_personas(self, work: Path) -> None:
        """Render the rows again with personas from the experts, who see only the dialogues that are used."""
        rows = {split: read_rows(work / f"{split}.parquet") for split in SPLITS}
        wanted = {_dialogue_key(row) for part in rows.values() for row in part}
        everything = read_corpora(self.config.raw_dir or SAMPLES, self.config.corpora)
        dialogues = [d for d in everything if personas.key(d) in wanted]
        profiles, answers = personas.ask_personas(dialogues, self.experts, cache_dir() / "experts")
        answers.write(work / "personas", profiles)
        print(answers.summary("personas"), flush=True)
        by_id = {
            row["extra_info"]["row_id"]: row
            for dialogue in dialogues
            for row in dialogue_rows(dialogue, self.templates, profiles.get(personas.key(dialogue)))
        }
        for split, part in rows.items():
            write_rows((by_id[row["extra_info"]["row_id"]] for row in part), work / f"{split}.parquet")

    def _drawn(self, rows: list[dict[str, Any]], most: int | None) -> list[dict[str, Any]]:
        return [rows[i] for i in draw_stratified(rows, most, self.config.run.seed)]

    def _make_base(self, work: Path) -> None:
        if self.config.evaluate.of:
            shutil.copy(Path(self.config.evaluate.of) / "base/base.json", work)
            return
        path = models.resolve(self.config.base.path)
        if path == "builtin:tiny":
            rows = read_rows(self.folder / "data/train.parquet")
            texts = [message["content"] for row in rows for message in row["prompt"]]
            texts += [self._expert(row) for row in rows]
            models.make_tiny(texts, work / "model", self.config.run.seed)
            path = str(self.folder / "base/model")
        write_json(work / "base.json", {"path": path})

    @property
    def base(self) -> Path:
        """The base model's folder or hub id."""
        return Path(json.loads((self.folder / "base/base.json").read_text())["path"])

    def _expert(self, row: dict[str, Any]) -> str:
        info = row["extra_info"]
        return respond(info["context"], info["persona"], row["data_source"])

    def _seed_buffer(self, work: Path) -> None:
        """B_0: the original rows, some of them with an expert's response (D_0)."""
        flywheel = self.config.flywheel
        everything, seed = read_rows(self.folder / "data/train.parquet"), self.config.run.seed
        rows = draw_mix(everything, flywheel.mix, seed)
        drawn = self._drawn(rows, flywheel.cold_start_rows)
        draws = {
            "mix": draw_record(everything, rows, flywheel.mix, seed),
            "cold_start": draw_record(rows, drawn, flywheel.cold_start_rows, seed),
        }
        write_json(work / "draw.json", draws)
        if self.experts:
            responses, answers = ask_responses(drawn, self.experts, cache_dir() / "experts")
            answers.write(work / "responses", {row_id: text for row_id, (_, text) in responses.items()})
            print(answers.summary("responses"), flush=True)
        else:
            responses = {row["extra_info"]["row_id"]: (OFFLINE, self._expert(row)) for row in drawn}
        for row in drawn:
            if found := responses.get(row["extra_info"]["row_id"]):
                row["response_from"], row["response"] = {"source": found[0], "iteration": 0}, found[1]
        write_rows(rows, work / "buffer.parquet")
        write_json(
            work / "counts.json",
            {"rows": len(rows), "with_response": sum(r["response"] is not None for r in rows)},
        )

    def _sft(self, work: Path, iteration: str, start: Path) -> None:
        """SFT of ``start`` on the buffer rows that have a response."""
        shutil.rmtree(work)  # an interrupted SFT starts again: it keeps no optimizer state
        work.mkdir(parents=True)
        rows = [r for r in read_rows(self.folder / iteration / "buffer/buffer.parquet") if r["response"]]
        fitted, _ = fit_rows(rows, self.base, self.config, self.templates)
        write_rows(fitted, work / "train.parquet")
        config = self._stage_config(work, f"{iteration}-sft")
        batch = config.sft.data.train_batch_size
        if len(fitted) < batch:
            raise ValueError(
                f"{len(fitted)} rows with a response do not fill sft.data.train_batch_size={batch}"
            )
        sft = sft_config(config.sft)
        sft.model.path = str(start)
        sft.data.train_files = str(work / "train.parquet")
        sft.trainer.default_local_dir = str(work / "checkpoints")
        sft.trainer.experiment_name = config.trainer.experiment_name
        sft.trainer.resume_mode = "disable"
        sft.trainer.save_freq = -1
        with open_dict(config):  # resolved here: its references are to veRL's SFT configuration
            config.sft = OmegaConf.to_container(sft, resolve=True)
        steps = len(fitted) // batch * config.sft.trainer.total_epochs
        self._train("sft", config, work, f"{iteration}/sft", start, steps)

    def _rl(self, work: Path, k: int, policy: Path) -> None:
        """SELF-GRPO on prompts of the buffer; an interrupted stage goes on from its last checkpoint."""
        buffer = read_rows(self.folder / f"iter_{k - 1}/buffer/buffer.parquet")
        cut = 0
        for name, rows in {"train": buffer, "dev": read_rows(self.folder / "data/dev.parquet")}.items():
            fitted, shortened = fit_rows(rows, self.base, self.config, self.templates)
            write_rows(
                ({**row, "response": None, "response_from": None} for row in fitted), work / f"{name}.parquet"
            )
            cut += shortened
        config = self._stage_config(work, f"iter_{k}-rl")
        an_epoch = len(buffer) // config.data.train_batch_size
        if an_epoch < 1:
            raise ValueError(
                f"{len(buffer)} prompts do not fill data.train_batch_size={config.data.train_batch_size}"
            )
        steps = config.trainer.total_training_steps or an_epoch * config.trainer.total_epochs
        with open_dict(config):
            config.actor_rollout_ref.model.path = str(policy)
            config.data.train_files = str(work / "train.parquet")
            config.data.val_files = str(work / "dev.parquet")
            config.trainer.default_local_dir = str(work / "checkpoints")
            config.trainer.total_training_steps = steps
            # veRL ends with whichever comes first; a number of steps that was asked for is meant.
            config.trainer.total_epochs = max(config.trainer.total_epochs, math.ceil(steps / an_epoch))
            config.self_emo.rollout_dir = str(work / "rollouts")
            # A weight must fit into one bucket on its way to vLLM; veRL notices when a step is done.
            engine = config.actor_rollout_ref.rollout.checkpoint_engine
            largest = models.largest_weight_mib(policy) + 1
            engine.update_weights_bucket_megabytes = max(engine.update_weights_bucket_megabytes, largest)
            if self.config.flywheel.lambda_horizon == "run":
                config.self_emo.lambda_offset = self._rl_steps_before(k)
                config.self_emo.lambda_total = config.self_emo.lambda_offset + steps * (
                    self.config.flywheel.iterations - k + 1
                )
        self._train("rl", config, work, f"iter_{k}/rl", policy, steps)
        write_json(work / "counts.json", {"prompts": len(buffer), "steps": steps, "prompts_cut": cut})

    def _train(self, stage: str, config: DictConfig, work: Path, step: str, start: Path, steps: int) -> None:
        """Run a training stage, unless a run of ``run.reuse`` has done the very same."""
        found = reuse.fingerprint(stage, config, work, self.folder, start)
        if other := reuse.take(found, work, step, self.config.run.reuse):
            print(f"  {stage}: as in the run {other}, taken from there", flush=True)
            return
        reached = work / "checkpoints/latest_checkpointed_iteration.txt"
        if done := int(reached.read_text() or 0) if stage == "rl" and reached.exists() else 0:
            print(f"  {stage}: going on from step {done} of {steps}", flush=True)
        run_stage(stage, config, work, total=steps, done=done)
        _take_model(work, f"checkpoints/global_step_*/{'actor/' if stage == 'rl' else ''}huggingface")
        reuse.record(found, work)

    def _rl_steps_before(self, k: int) -> int:
        return sum(read_json(self.folder / f"iter_{j}/rl/counts.json")["steps"] for j in range(1, k))

    def _select(self, work: Path, k: int) -> None:
        flywheel = self.config.flywheel
        buffer, counts, draw = grow(
            read_rows(self.folder / f"iter_{k - 1}/buffer/buffer.parquet"),
            read_rollouts(self.folder / f"iter_{k}/rl/rollouts"),
            self.templates,
            iteration=k,
            model=models.digest(self.folder / f"iter_{k}/rl/model"),
            min_reward=flywheel.min_reward,
            mix=flywheel.mix,
            seed=self.config.run.seed,
        )
        write_rows(buffer, work / "buffer.parquet")
        write_json(work / "draw.json", {"mix": draw})
        write_json(work / "counts.json", counts)

    def _checkpoints(self) -> dict[str, Path]:
        last = self.config.flywheel.iterations
        made = checkpoint_folders(Path(self.config.evaluate.of or self.folder), last)
        known = {"base": self.base} | made
        wanted = [s for s in known if s in self.config.evaluate.stages]
        return {stage: known[stage] for stage in wanted if last > 0 or stage in ("base", "cold")}

    def _evaluate(self, checkpoints: dict[str, Path]) -> None:
        """Score the checkpoints that are not scored yet; one process answers for all of them."""
        pending = {s: str(m) for s, m in checkpoints.items() if not (self.folder / f"eval/{s}").exists()}
        if not pending:
            return
        work = self.folder / "eval/answers"
        work.mkdir(parents=True, exist_ok=True)
        print(f"[{time.strftime('%H:%M:%S')}] eval/answers of {', '.join(pending)}", flush=True)
        rows, _ = fit_rows(
            read_rows(self.folder / "data/test.parquet"), self.base, self.config, self.templates
        )
        write_rows(rows, work / "test.parquet")
        config = self._stage_config(work, "evaluate")
        with open_dict(config):
            config.job = {"data": str(work / "test.parquet"), "out": str(work), "models": pending}
        with self._timed("eval/answers", work):
            self._retried(lambda: run_stage("evaluate", config, work, total=len(rows) * len(pending)))
        for stage in pending:
            self._step(f"eval/{stage}", lambda step, s=stage: self._score(step, rows, read_answers(work / s)))

    def _score_baselines(self) -> None:
        """What needs no language model; before training, so that nothing late depends on it."""
        pending = {n: answer for n, answer in BASELINES.items() if not (self.folder / f"eval/{n}").exists()}
        splits = [read_rows(self.folder / f"data/{s}.parquet") for s in ("train", "test") if pending]
        for name, answer in pending.items():
            try:
                said = {row_id: [text] for row_id, text in answer(*splits).items()}
            except ValueError as error:  # a corpus without gold training rows; the run does without
                print(f"no {name} baseline: {error}", flush=True)
                continue
            self._step(f"eval/{name}", lambda work, s=said: self._score(work, splits[1], s))

    def _score(self, work: Path, rows: list[dict[str, Any]], answers: dict[str, list[str]]) -> None:
        records = score_answers(rows, answers)
        write_json(work / "records.json", records)
        write_json(work / "summary.json", summarise(records))
        found = json.loads((self.folder / "data/leakage.json").read_text())
        leaking = {name for o in found if o["unit"] == "utterance" for name in o["ids"]}
        if clean := [r for r in records if r["row_id"] not in leaking]:
            write_json(work / "summary_clean.json", summarise(clean))

    # ---------------------------------------------------------------- helpers

    @contextmanager
    def _timed(self, name: str, work: Path) -> Iterator[None]:
        started = time.time() - read_json(work / "usage.json", {}).get("seconds", 0.0)  # of runs that ended
        yield
        path = self.folder / "state.json"
        state = {"steps": read_state(self.folder)}
        state["steps"][name] = {"seconds": round(time.time() - started, 1), "finished": time.time()}
        write_json(path, state)

    def _step(self, name: str, work_on: Callable[[Path], None]) -> None:
        target = self.folder / name
        if target.exists():
            return
        work = target.with_name(target.name + ".work")
        work.mkdir(parents=True, exist_ok=True)
        print(f"[{time.strftime('%H:%M:%S')}] {name}", flush=True)
        with self._timed(name, work):
            self._retried(lambda: work_on(work))
            work.rename(target)

    def _retried(self, work_on: Callable[[], None]) -> None:
        """Do a stage again that lost a worker or a node; RL goes on from its last checkpoint."""
        for left in reversed(range(self.config.run.retries + 1)):
            try:
                return work_on()
            except WorkerLostError as error:
                if not left:
                    raise
                print(f"[{time.strftime('%H:%M:%S')}] {error}; trying again", flush=True)
                if address := os.environ.get("RAY_ADDRESS"):
                    trainer, patience = self.config.trainer, self.config.run.rejoin
                    check_cluster(address, trainer.nnodes, trainer.n_gpus_per_node, patience)

    def _stage_config(self, work: Path, experiment: str) -> DictConfig:
        config = self.config.copy()
        with open_dict(config):
            config.trainer.experiment_name = f"{self.folder.name}-{experiment}"
        return config


def _dialogue_key(row: dict[str, Any]) -> str:
    info = row["extra_info"]
    return f"{row['data_source']}:{info['split']}:{info['dialogue_id']}"


def _take_model(work: Path, pattern: str) -> None:
    """Move the newest exported Hugging Face folder to ``<work>/model``."""
    found = sorted(work.glob(pattern), key=lambda p: int(p.as_posix().split("global_step_")[1].split("/")[0]))
    if not found:
        raise FileNotFoundError(f"the stage left no model under {work / pattern}")
    if not (work / "model").exists():
        found[-1].rename(work / "model")
