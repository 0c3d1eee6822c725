"""One self-contained page about a run: what it achieved, how it got there, what it wrote.

`python -m recipe.report RUN [RUN ...]` (`make report RUN=...`) writes it again from the run's files.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jinja2
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from omegaconf import OmegaConf

from data_prep.rows import ground_truth, read_rows
from recipe.buffer import best_rollouts, read_rollouts
from recipe.statistics import bootstrap_intervals, compare

STAGE_NAMES = {
    "base": "base model",
    "cold": "after cold start",
    "rl": "after RL (SELF-GRPO)",
    "retrained": "after retraining on B",
}
MEASURES = ("accuracy", "weighted_f1", "valid", "reward")
_GROUPS_SHOWN = 24
#: veRL's timers that do not lie within each other.
_PARTS = {
    "gen": "generation and reward",
    "old_log_prob": "old log-probabilities",
    "ref": "reference log-probabilities",
    "adv": "advantages",
    "update_actor": "actor update",
    "update_weights": "weights to vLLM",
    "save_checkpoint": "checkpoints",
}


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """The evaluation as a table on the terminal; measures are shares, the reward lies in [0, 1.1]."""
    corpora = [c for c in next(iter(results.values()), {}) if c != "avg"]
    print(f"\n{'held-out test split':<24}{'corpus':<10}{'n':>6}" + "".join(f"{m:>13}" for m in MEASURES))
    for stage, table in results.items():
        for corpus in (*corpora, "avg"):
            row = table[corpus]
            name = STAGE_NAMES[stage] if corpus == (*corpora, "avg")[0] else ""
            print(f"{name:<24}{corpus:<10}{row['n']:>6}" + "".join(f"{row[m]:>13.3f}" for m in MEASURES))


def write_report(folder: Path) -> Path:
    """Write ``<folder>/report.html`` and ``metrics.jsonl`` from what the run has so far.

    Args:
        folder: the run's folder.

    Returns:
        The page's path.
    """
    config = OmegaConf.load(folder / "config.yaml")
    stages = _stage_metrics(folder)
    with (folder / "metrics.jsonl").open("w") as file:
        for stage, entries in stages.items():
            for entry in entries:
                file.write(json.dumps({"stage": stage, **entry}) + "\n")
    results = {
        stage: json.loads(path.read_text())
        for stage in STAGE_NAMES
        if (path := folder / f"eval/{stage}/summary.json").exists()
    }
    clean = {
        stage: json.loads(path.read_text())
        for stage in results
        if (path := folder / f"eval/{stage}/summary_clean.json").exists()
    }
    leakage = folder / "data/leakage.json"
    records = {
        stage: json.loads(path.read_text())
        for stage in results
        if (path := folder / f"eval/{stage}/records.json").exists()
    }
    state = json.loads((folder / "state.json").read_text())["steps"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        run=folder.name,
        unfinished=[stage for stage in config.evaluate.stages if stage not in results],
        model=config.base.name,
        seed=config.run.seed,
        expert=config.expert.kind if "expert" in config else "offline",
        profile=config.profile,
        corpora="sample dialogues" if not config.raw_dir else Path(config.raw_dir).name,
        results=results,
        intervals={stage: bootstrap_intervals(rows) for stage, rows in records.items()},
        clean={
            stage: table for stage, table in clean.items() if table["avg"]["n"] < results[stage]["avg"]["n"]
        },
        leakage=json.loads(leakage.read_text()) if leakage.exists() else [],
        comparisons=compare(records, list(itertools.combinations(records, 2))),
        names=STAGE_NAMES,
        measures=MEASURES,
        timings=[{"name": name, **step, **_usage(folder / name)} for name, step in state.items()],
        step_parts={name: _step_parts(entries) for name, entries in stages.items() if name.endswith("/rl")},
        figures=[svg for svg in (_rl_figure(stages), _sft_figure(stages), *_confusions(folder)) if svg],
        buffers=_buffers(folder),
        groups=_groups(folder, config.flywheel.min_reward),
        min_reward=config.flywheel.min_reward,
        settings=OmegaConf.to_yaml(config),
    )
    target = folder / "report.html"
    part = target.with_suffix(".part")
    part.write_text(page, encoding="utf-8")
    part.replace(target)
    return target


def _stage_metrics(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Metrics per stage, in step order; a resumed stage's repeated steps count once, the later wins."""
    stages = {}
    for path in sorted(folder.glob("iter_*/*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        by_step: dict[int, dict] = {}
        for line in lines:
            by_step.setdefault(line["step"], {}).update(line["data"])
        stages[f"{path.parent.parent.name}/{path.parent.name}"] = [
            {"step": step, "data": by_step[step]} for step in sorted(by_step)
        ]
    return stages


def _series(entries: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(e["step"], e["data"][name]) for e in entries if name in e["data"]]
    return [p[0] for p in points], [p[1] for p in points]


def _rl_figure(stages: dict[str, list]) -> str | None:
    panels = {
        "Mean reward R (Eq. 8)": "self_emo/reward",
        "Accuracy of rollouts": "self_emo/accuracy",
        "Share that keeps the rule": "self_emo/valid",
        "Secondary reward r2 (Eq. 12)": "self_emo/r2",
        "Consensus weight λ": "self_emo/lambda",
        "Policy entropy (nats)": "actor/entropy",
        "Gradient norm": "actor/grad_norm",
        "Groups without spread in R": "self_emo/reward_std_zero_share",
    }
    rl = {name: entries for name, entries in stages.items() if name.endswith("/rl") and entries}
    if not rl:
        return None
    figure, axes = plt.subplots(2, 4, figsize=(13, 5.2))
    for axis, (title, metric) in zip(axes.flat, panels.items(), strict=True):
        for name, entries in rl.items():
            axis.plot(*_series(entries, metric), label=name, linewidth=1.4)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("RL step", fontsize=8)
        axis.grid(alpha=0.3)
    if len(rl) > 1:
        axes.flat[0].legend(fontsize=7)
    return _svg(figure)


def _sft_figure(stages: dict[str, list]) -> str | None:
    sft = {name: entries for name, entries in stages.items() if name.endswith("/sft") and entries}
    if not sft:
        return None
    figure, axis = plt.subplots(figsize=(6, 2.6))
    for name, entries in sft.items():
        axis.plot(*_series(entries, "train/loss"), label=name, linewidth=1.4)
    axis.set_title("SFT loss (nats a token)", fontsize=9)
    axis.set_xlabel("SFT step", fontsize=8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return _svg(figure)


def _confusions(folder: Path) -> list[str]:
    """Confusion matrices of the last evaluated checkpoint, one per corpus."""
    done = [s for s in STAGE_NAMES if (folder / f"eval/{s}/records.json").exists()]
    if not done:
        return []
    records = json.loads((folder / f"eval/{done[-1]}/records.json").read_text())
    corpora = sorted({r["corpus"] for r in records})
    figure, axes = plt.subplots(1, len(corpora), figsize=(4.4 * len(corpora), 4), squeeze=False)
    for axis, corpus in zip(axes.flat, corpora, strict=True):
        part = [r for r in records if r["corpus"] == corpus]
        gold = sorted({r["gold"] for r in part})
        pred = sorted({r["pred"] for r in part} | set(gold), key=lambda p: (p.startswith("("), p))
        counts = [[sum(r["gold"] == g and r["pred"] == p for r in part) for p in pred] for g in gold]
        axis.imshow([[c / max(sum(row), 1) for c in row] for row in counts], cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                axis.text(j, i, count or "", ha="center", va="center", fontsize=7)
        axis.set_xticks(range(len(pred)), pred, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(gold)), gold, fontsize=7)
        axis.set_title(f"{corpus}: gold by predicted, {STAGE_NAMES[done[-1]]}", fontsize=8)
    return [_svg(figure)]


def _svg(figure: Any) -> str:
    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _usage(step: Path) -> dict[str, Any]:
    """What `run_stage` measured: the last attempt's times, the peak of memory; nothing for other steps."""
    usage = step / "usage.json"
    found = json.loads(usage.read_text()) if usage.exists() else {}
    return {name: found.get(name) for name in ("to_first_step", "after_last_step", "peak_gib")}


def _step_parts(entries: list[dict[str, Any]]) -> dict[str, float]:
    """Mean seconds of the parts of an RL step after the first, which waits for processes to start."""
    steps = [entry["data"] for entry in entries[1:]]
    parts = {
        title: sum(step.get(f"timing_s/{name}", 0.0) for step in steps) / len(steps)
        for name, title in _PARTS.items()
        if any(f"timing_s/{name}" in step for step in steps)
    }
    if parts:
        whole = sum(step["timing_s/step"] for step in steps) / len(steps)
        parts["everything else"] = max(whole - sum(parts.values()), 0.0)
    return parts


def _buffers(folder: Path) -> list[dict[str, Any]]:
    """What every iteration's buffer holds, by origin and the iteration that a row comes from."""
    tables = []
    for path in sorted(folder.glob("iter_*/buffer/buffer.parquet")):
        rows = read_rows(path)
        origins: dict[str, int] = {}
        for row in rows:
            info = row["extra_info"]
            name = (
                "original" if info["origin"] == "original" else f"self-play of iteration {info['iteration']}"
            )
            origins[name] = origins.get(name, 0) + 1
        tables.append(
            {
                "name": path.parent.parent.name,
                "rows": len(rows),
                "responses": sum(row["response"] is not None for row in rows),
                "rollouts": sum((row.get("response_from") or {}).get("source") == "rollout" for row in rows),
                "origins": origins,
            }
        )
    return tables


def _groups(folder: Path, min_reward: float) -> list[dict[str, Any]]:
    """Prompts of the last RL stage's last steps with all their rollouts, the best one marked."""
    stages = sorted(folder.glob("iter_*/rl/rollouts"))
    if not stages:
        return []
    rollouts = read_rollouts(stages[-1])
    prompts = {r["extra_info"]["row_id"]: r for r in read_rows(stages[-1].parent / "train.parquet")}
    by_uid: dict[str, list[dict[str, Any]]] = {}
    for rollout in rollouts:
        by_uid.setdefault(rollout["uid"], []).append(rollout)
    shown = []
    for group in list(by_uid.values())[-_GROUPS_SHOWN:]:
        best = best_rollouts(group, min_reward).get(group[0]["row_id"])
        row = prompts[group[0]["row_id"]]
        shown.append(
            {
                "step": group[0]["step"],
                "corpus": group[0]["data_source"],
                "messages": row["prompt"],
                "label": ground_truth(row),
                "rollouts": [
                    {**r, "best": best is not None and r["rollout_index"] == best["rollout_index"]}
                    for r in sorted(group, key=lambda r: -r["score"])
                ],
            }
        )
    return shown


def main() -> int:
    """Command line of `make report`."""
    if not sys.argv[1:]:
        print("error: name a run, for instance make report RUN=runs/tiny-...", file=sys.stderr)
        return 1
    for name in sys.argv[1:]:
        folder = Path(name) if Path(name).is_dir() else Path("runs") / name
        if not (folder / "state.json").is_file():
            print(f"error: {folder} is no run: it has no state.json", file=sys.stderr)
            return 1
        print(write_report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
