"""veRL's synchronous trainer with SELF-GRPO's consensus (Eq. 11-13) and a record of every rollout.

Nothing of veRL is copied: predictions are read from TransferQueue, where the reward loop put them,
and handed to the `self_grpo` estimator around veRL's own `_compute_advantage`.
"""

from __future__ import annotations

import json
from collections import Counter
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import ray
import transfer_queue as tq
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from advantage.self_grpo import progress, secondary_rewards
from data_prep.rows import write_records
from recipe.evaluation.habits import habits
from recipe.on_verl.estimator import Consensus, hand_over
from recipe.run.checkpoints import make_room
from rewards.labels import corpus_labels

#: A field of `extra_fields.reward_extra_info` for every column of the record that the reward filled.
_REWARD_FIELDS = ("score", "iou", "acc", "valid", "reason", "pred", "parsed", "twin", "top_weight", "named")


class SelfEmoTrainer(PPOTrainerSync):
    """The trainer of the RL stage."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.replay_buffer.poll_interval = config.self_emo.poll_interval
        self._rollouts: list[dict[str, Any]] = []
        self._metrics: dict[str, Any] = {}  # of the step that is being made

    def prepare_step(self) -> dict:
        with marked_timer("gen", self.timing_raw):  # where the rollouts are made here, not only asked for
            return super().prepare_step()

    def _compute_advantage(self, batch: Any, metrics: dict) -> Any:
        self._metrics = metrics
        rows = self._read_rollouts(batch)
        lam = self._lambda()
        secondary = _secondary_of_groups(rows, self.config.self_emo.min_named_weight)
        for row, r2 in zip(rows, secondary, strict=True):
            row.update(r2=r2, lam=lam, step=self.global_steps)
        self._rollouts = rows
        real = [row for row in rows if not row["is_padding"]]
        metrics.update(_consensus_metrics(real, lam))
        shares = habits(real, [row["labels"] for row in real], self.config.self_emo.min_named_weight)
        metrics.update({f"self_emo/{name}": share for name, share in shares.items() if share is not None})
        with hand_over(Consensus(secondary, [row["uid"] for row in rows], lam)):
            return super()._compute_advantage(batch, metrics)

    def _update_actor(self, batch: Any, metrics: dict) -> Any:
        self._record_rollouts(batch)
        batch = super()._update_actor(batch, metrics)
        if "actor/entropy_loss" in metrics:  # the same mean; veRL's other name for it needs another pass
            metrics.setdefault("actor/entropy", metrics["actor/entropy_loss"])
        return batch

    def _save_checkpoint(self) -> None:
        """Metrics first: veRL logs a step after it has saved it; a kill between the two would lose them. Room
        next, of which a run was promised to take no more than it was asked for."""
        known = {name: value for name, value in self._metrics.items() if isinstance(value, Real)}
        self.logger.log(data=known, step=self.global_steps, backend=["file"])
        trainer = self.config.trainer
        make_room(Path(trainer.default_local_dir), trainer.max_actor_ckpt_to_keep)
        super()._save_checkpoint()

    def _lambda(self) -> float:
        own = self.config.self_emo
        done = progress(own.lambda_offset + self.global_steps, own.lambda_total or self.total_training_steps)
        return own.lambda_max * done

    def _read_rollouts(self, batch: Any) -> list[dict[str, Any]]:
        """One dictionary per row of ``batch``, in its order."""
        fields = ["uid", "extra_fields", "extra_info", "data_source", "responses"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        columns = {name: _as_list(data[name]) for name in fields}
        rows = []
        for i, (key, tag) in enumerate(zip(batch.keys, batch.tags, strict=True)):
            info, scored = columns["extra_info"][i], columns["extra_fields"][i]["reward_extra_info"]
            corpus = str(columns["data_source"][i])
            labels = info.get("labels")
            rows.append(
                {
                    "uid": str(columns["uid"][i]),
                    "is_padding": bool(tag.get("is_padding", False)),
                    "row_id": str(info["row_id"]),
                    "rollout_index": int(key.rsplit("_", 2)[1]),
                    "data_source": corpus,
                    "labels": list(labels) if labels is not None else list(corpus_labels(corpus)),
                    "response": self.tokenizer.decode(columns["responses"][i], skip_special_tokens=True),
                    **{name: scored[name] for name in _REWARD_FIELDS},
                }
            )
        return rows

    def _record_rollouts(self, batch: Any) -> None:
        """Write the step's rollouts, with the advantages that the actor is about to be given."""
        folder = self.config.self_emo.rollout_dir
        if not folder:
            return
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages", "response_mask"]
        )
        for row, advantage, mask in zip(
            self._rollouts, _as_list(data["advantages"]), _as_list(data["response_mask"]), strict=True
        ):
            row["advantage"] = float(advantage[mask.bool()][0]) if bool(mask.any()) else 0.0
        rows = [
            {k: v for k, v in row.items() if k != "is_padding"}
            for row in self._rollouts
            if not row["is_padding"]
        ]
        write_records(rows, Path(folder) / f"step_{self.global_steps:06d}.parquet")


def _secondary_of_groups(rows: list[dict[str, Any]], min_named_weight: float) -> list[float]:
    """r2 of every row (Eq. 12), each group's consensus being its own."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row["uid"], []).append(i)
    secondary = [0.0] * len(rows)
    for members in groups.values():
        predictions = [json.loads(rows[i]["parsed"])["last_emotions"] for i in members]
        found = secondary_rewards(predictions, rows[members[0]]["labels"], min_named_weight)
        for i, r2 in zip(members, found, strict=True):
            secondary[i] = r2
    return secondary


def _consensus_metrics(rows: list[dict[str, Any]], lam: float) -> dict[str, float]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["uid"], []).append(row)
    reasons = Counter(row["reason"] for row in rows if row["reason"])

    def flat(name: str) -> float:
        return float(np.mean([len({row[name] for row in group}) == 1 for group in groups.values()]))

    def mean(name: str) -> float:
        return float(np.mean([row[name] for row in rows]))

    # What r2 knows: how much more of it right answers earn than wrong ones that keep the rule, too.
    gaps = []
    for group in groups.values():
        right, wrong = ([r["r2"] for r in group if r["valid"] and r["acc"] == hit] for hit in (1, 0))
        if right and wrong:
            gaps.append(np.mean(right) - np.mean(wrong))
    known = {"self_emo/r2_right_minus_wrong": float(np.mean(gaps))} if gaps else {}
    return {
        **known,
        "self_emo/lambda": lam,
        "self_emo/twin": mean("twin"),
        "self_emo/top_weight": mean("top_weight"),
        "self_emo/named": mean("named"),
        "self_emo/pass_at_n": float(np.mean([max(r["acc"] for r in group) for group in groups.values()])),
        "self_emo/reward": mean("score"),
        "self_emo/iou": mean("iou"),
        "self_emo/accuracy": mean("acc"),
        "self_emo/valid": mean("valid"),
        "self_emo/r2": mean("r2"),
        "self_emo/r2_std_zero_share": flat("r2"),
        "self_emo/reward_std_zero_share": flat("score"),
        **{f"rule_failure/{reason}": count / len(rows) for reason, count in sorted(reasons.items())},
    }


def _as_list(column: Any) -> list[Any]:
    """A TransferQueue column (nested tensor, non-tensor stack or array) as one entry per row."""
    if hasattr(column, "is_nested") and column.is_nested:
        return list(column.unbind())
    return [getattr(item, "data", item) if not hasattr(item, "shape") else item for item in column]


def _group_replica() -> Any:
    """Imports vLLM, so where it is asked for and not before, as veRL's own entry of the registry does."""
    from recipe.on_verl.group_server import GroupReplica

    return GroupReplica


@ray.remote
class SelfEmoTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """veRL's task runner, in whose process the synchronous trainer is ours."""

    def run(self, config: Any) -> None:
        """Run the RL stage; ``config`` is the composed configuration."""
        # Imported here: Ray sends this class by value, with copies of the globals that it uses.
        from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
        from verl.workers.rollout.replica import RolloutReplicaRegistry

        TRAINER_REGISTRY["sync"] = SelfEmoTrainer
        agent = config.actor_rollout_ref.rollout.agent
        if agent.get("agent_loop_manager_class"):  # ours, which asks for groups
            RolloutReplicaRegistry.register("vllm", _group_replica)
        super().run(config)
