"""One self-contained page about a run: what it achieved, whether to believe it, what it wrote.

`python -m recipe.pages.report RUN [RUN ...]` (`make report RUN=...`) writes it again from the run's files,
and of several runs also the page that compares them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data_prep.corpora import agreement_of
from data_prep.disk import in_words
from data_prep.files import write_json, write_text
from recipe.evaluation import circularity
from recipe.evaluation.checkpoint_tests import compare, tested_pairs
from recipe.evaluation.intervals import bootstrap_intervals
from recipe.evaluation.results import (
    MEASURE_NAMES,
    NEAREST_NAMES,
    STAGE_NAMES,
    is_checkpoint,
    missing_records,
    read_evaluation,
    read_summaries,
    unscored,
)
from recipe.evaluation.rl_stages import read_rl_stages
from recipe.pages import circularity_section as diagnose
from recipe.pages import clusters as persona_table
from recipe.pages import figures, gains_section, judge_section
from recipe.pages.compare import compare_runs
from recipe.pages.headline import COLUMNS, as_text, headline
from recipe.pages.render import render_page
from recipe.pages.rollout_browser import shown_groups
from recipe.run import versions
from recipe.run.files import (
    metrics_problems,
    read_buffers,
    read_config,
    read_json,
    read_metrics,
    read_state,
    run_folder,
)
from recipe.run.table12 import against_paper
from recipe.run.usage import read_usage

#: Other pages about a run, beside this one.
_PAGES = {"data card": "data/data_card.html", "sentences of the persona clusters": "clusters.html"}
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


def print_headline(folder: Path) -> None:
    """What the page of a run opens with, on the terminal."""
    records = read_evaluation(folder, "records")
    results = read_summaries(folder, records)
    intervals = {stage: bootstrap_intervals(rows) for stage, rows in records.items()}
    print(as_text(headline(results, records, intervals)))


def print_results(folder: Path) -> None:
    """The measures of every checkpoint of a run as a table, on the terminal, then its headline."""
    results = read_summaries(folder, read_evaluation(folder, "records"))
    width = max(map(len, map(STAGE_NAMES.__getitem__, results)), default=0) + 2
    columns = MEASURE_NAMES | NEAREST_NAMES
    print(f"\n{'checkpoint':<{width}}{'n':>6}" + "".join(f"{name:>22}" for name in columns.values()))
    for stage, table in results.items():
        values = (table["avg"].get(m) for m in columns)  # an older run without records has no nearest labels
        cells = "".join(f"{'–' if value is None else f'{value:.3f}':>22}" for value in values)
        print(f"{STAGE_NAMES[stage]:<{width}}{table['avg']['n']:>6}{cells}")
    for stage, table in read_evaluation(folder, "summary_paraphrases").items():
        over = {name: table["avg"][m] for m, name in MEASURE_NAMES.items() if m in table["avg"]}
        print(f"{STAGE_NAMES[stage]}, in {len(over['accuracy']['values'])} other wordings of the prompt:")
        for name, v in over.items():
            print(f"  {name:<16}{v['mean']:.3f} ({v['low']:.3f} to {v['high']:.3f})")
    print_headline(folder)


def write_report(folder: Path) -> Path:
    """Write ``report.html``, ``metrics.jsonl`` and ``eval/{training,alarms}.json`` from what there is so far.

    Args:
        folder: the run's folder.

    Returns:
        The page's path.

    Raises:
        ValueError: a file of the run is broken; the message names it.
    """
    config = read_config(folder)
    metrics = read_metrics(folder)
    write_text(
        folder / "metrics.jsonl",
        "".join(
            json.dumps({"stage": stage, **entry}) + "\n"
            for stage, entries in metrics.items()
            for entry in entries
        ),
    )
    records = read_evaluation(folder, "records")
    written = {stage: rows for stage, rows in records.items() if is_checkpoint(stage)}
    results = read_summaries(folder, records)
    clean = {
        stage: table
        for stage, table in read_evaluation(folder, "summary_clean").items()
        if stage in results and table["avg"]["n"] < results[stage]["avg"]["n"]
    }
    stages = read_rl_stages(folder)
    buffers, real_next = read_buffers(folder), gains_section.real_next_labels(folder)
    steps, iterations = gains_section.steps_of(stages), gains_section.stage_table(stages)
    quality = gains_section.buffer_table(buffers)
    (folder / "eval").mkdir(exist_ok=True)  # a run that has not scored anything yet
    write_json(folder / "eval/training.json", {"steps": steps, "stages": iterations, "buffers": quality})
    own = gains_section.own_emotions_and_replies(folder, written)
    warnings = diagnose.alarms_of(stages, written)
    said = [{"title": alarm.title, "clear": alarm.clear, "text": alarm.text} for alarm in warnings]
    write_json(folder / "eval/alarms.json", said)
    state = read_state(folder)
    problems = [problem for stage in stages for problem in stage.problems] + missing_records(folder)
    problems += metrics_problems(folder) + _rule_breakers(results)
    scored, personas = config.evaluate.get("of"), None
    try:
        personas = persona_table.section_of_run(folder, records, Path(scored) if scored else None)
    except ValueError as error:  # another command's file; the page is as good without it
        problems.append(str(error))
    judged, broken = judge_section.judged(folder)
    problems += broken
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)
    intervals = {stage: bootstrap_intervals(rows) for stage, rows in records.items()}
    page = render_page(
        "report.html.j2",
        headline=headline(results, records, intervals),
        columns=COLUMNS,
        run=folder.name,
        config=config,
        pages={name: page for name, page in _PAGES.items() if (folder / page).is_file()},
        expert=config.expert.kind if "expert" in config else "offline",
        corpora="sample dialogues" if not config.raw_dir else Path(config.raw_dir).name,
        unfinished=unscored(folder, config, results),
        problems=problems,
        results=results,
        nearest=NEAREST_NAMES,
        paraphrases=read_evaluation(folder, "summary_paraphrases"),
        ceilings=_ceilings(results) if config.raw_dir else {},
        detailed={stage: table for stage, table in results.items() if "ece" in table["avg"]},
        intervals=intervals,
        clean=clean,
        comparisons=compare(records, tested_pairs(list(records))),
        warnings=warnings,
        has_self_labels=any(group.self_labelled for stage in stages for group in stage.groups),
        iterations=iterations,
        gain_charts=gains_section.step_charts(steps),
        p_gold=gains_section.gold_probabilities(written, read_evaluation(folder, "records_train")),
        own=own,
        own_words=gains_section.own_in_words(own),
        mistakes=diagnose.mistakes_between(written),
        replies={stage: diagnose.diversity_of(rows) for stage, rows in written.items()},
        entropies={
            stage: found
            for stage in written
            if (found := read_json(folder / f"eval/answers/{stage}/entropy.json", None)) and found["answers"]
        },
        judged=judged,
        personas=personas,
        drift_charts=diagnose.drift_charts(buffers, real_next),
        group_charts=diagnose.group_charts(stages),
        held_out=diagnose.held_out_of(folder),
        reliability=_reliability_charts(results),
        confusions=_confusion_charts(results),
        training=_training_charts(metrics),
        buffers=[{"name": name, **_contents(rows, real_next)} for name, rows in buffers.items()],
        buffer_quality=quality,
        leakage=read_json(folder / "data/leakage.json", []),
        timings=[{"name": name, **step, **_usage(folder / name)} for name, step in state.items()],
        gpu_hours=_gpu_hours(config, state),
        bought=_bought(folder),
        step_parts={name: step_parts(entries) for name, entries in metrics.items() if name.endswith("/rl")},
        groups=shown_groups(stages),
        all_groups=sum(len(stage.groups) for stage in stages),
        table12=against_paper(config),
        versions=read_json(folder / "versions.json", []),
        versions_now=versions.collect(),
        settings=OmegaConf.to_yaml(config),
    )
    return write_text(folder / "report.html", page)


def _ceilings(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """corpus -> how well its annotators agree, where that is known."""
    corpora = next(iter(results.values()), {})
    return {corpus: said for corpus in corpora if (said := agreement_of(corpus))}


def _rule_breakers(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Trained checkpoints that mostly earn nothing: what follows from them says little."""
    return [
        f"{STAGE_NAMES[stage]}: {table['avg']['valid']:.0%} of the test answers keep the rule, the others "
        "earn nothing; a longer cold start helps (flywheel.cold_start_rows, sft.trainer.total_epochs)"
        for stage, table in results.items()
        if is_checkpoint(stage) and stage != "base" and table["avg"]["valid"] < 0.5
    ]


# ---- pictures ----


def _reliability_charts(results: Mapping[str, Mapping[str, Any]]) -> list[figures.Figure]:
    """One per corpus; the majority class has a single confidence, and so no curve."""
    drawn = {stage: table for stage, table in results.items() if stage != "majority"}
    charts = [
        figures.reliability_chart(
            {
                STAGE_NAMES[stage]: table[corpus]["calibration"]
                for stage, table in drawn.items()
                if "calibration" in table[corpus]
            },
            corpus,
        )
        for corpus in next(iter(drawn.values()), {})
        if corpus != "avg"
    ]
    return [chart for chart in charts if chart]


def _confusion_charts(results: Mapping[str, Mapping[str, Any]]) -> list[figures.Figure]:
    """Of the last evaluated checkpoint, one per corpus."""
    last = next(reversed(list(results)), "")
    return [
        figures.confusion_chart(row["confusion"], f"{corpus}, {STAGE_NAMES[last]}")
        for corpus, row in results.get(last, {}).items()
        if "confusion" in row
    ]


def _training_charts(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[figures.Figure]:
    sft = {n: figures.series(entries, "train/loss") for n, entries in metrics.items() if n.endswith("/sft")}
    loss = figures.line_chart(
        sft, "SFT loss", "SFT step", "Mean cross-entropy of a response's token, in nats."
    )
    rl = figures.rl_charts({name: entries for name, entries in metrics.items() if name.endswith("/rl")})
    return rl + ([loss] if loss else [])


# ---- tables ----


def _usage(step: Path) -> dict[str, Any]:
    """What `recipe.run.usage` measured; None for steps that are no stages."""
    names = ("attempts", "to_first_step", "after_last_step", "peak_gib", "taken_from")
    found = read_usage(step / "usage.json")
    return {name: found.get(name) for name in names}


def _gpu_hours(config: Any, steps: Mapping[str, Mapping[str, float]]) -> dict[str, float | None] | None:
    """GPUs, the hours that they were held, and their cost where ``plan`` has a price; None without GPUs."""
    if config.profile != "gpu":
        return None
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    hours = gpus * sum(step["seconds"] for step in steps.values()) / 3600
    price = OmegaConf.select(config, "plan.dollars_per_gpu_hour")
    return {"gpus": gpus, "hours": hours, "dollars": None if price is None else price * hours}


def _bought(folder: Path) -> dict[str, dict[str, Any]]:
    """What endpoints were asked -> requests, tokens and price, of `experts.client.Answers`."""
    parts = ("data", "iter_0/buffer", "eval/answers", "judge/*")
    paths = [p for part in parts for p in folder.glob(f"{part}/*.usage.json")]
    return {str(p.relative_to(folder)).removesuffix(".usage.json"): read_json(p) for p in sorted(paths)}


def step_parts(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean seconds of the parts of an RL step after the first, which waits for processes to start.

    A step that was killed after its checkpoint has metrics and no times (`SelfEmoTrainer._save_checkpoint`).
    """
    steps = [entry["data"] for entry in entries[1:] if "timing_s/step" in entry["data"]]
    parts = {
        title: sum(step.get(f"timing_s/{name}", 0.0) for step in steps) / len(steps)
        for name, title in _PARTS.items()
        if any(f"timing_s/{name}" in step for step in steps)
    }
    if parts:
        whole = sum(step["timing_s/step"] for step in steps) / len(steps)
        parts["everything else"] = max(whole - sum(parts.values()), 0.0)
    return parts


def _contents(
    rows: Sequence[Mapping[str, Any]], real_next: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """What a buffer holds, by origin and the iteration that a row comes from."""
    origins: dict[str, int] = {}
    for row in rows:
        info = row["extra_info"]
        name = "original" if info["origin"] == "original" else f"self-play of iteration {info['iteration']}"
        origins[name] = origins.get(name, 0) + 1
    drift = circularity.label_drift(rows, real_next)
    return {
        "rows": len(rows),
        "responses": sum(row["response"] is not None for row in rows),
        "rollouts": sum((row.get("response_from") or {}).get("source") == "rollout" for row in rows),
        "origins": origins,
        "divergence": {corpus: found["divergence"] for corpus, found in drift.items()},
    }


def main() -> int:
    """Command line of `make report`."""
    if not sys.argv[1:]:
        print("error: name a run, make report RUN=<name>; `ls runs` shows them", file=sys.stderr)
        return 1
    try:
        folders = [run_folder(name) for name in sys.argv[1:]]
        for folder in folders:
            print(write_report(folder))
        if len(folders) > 1:
            print(*compare_runs(folders), sep="\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not (said := in_words(error, None)):
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
