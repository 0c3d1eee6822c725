"""Several runs side by side: means over seeds, tests between settings, curves over each other.

`python -m recipe.pages.compare RUN RUN ...` (`make compare RUNS="a b c"`) prints a table and writes
`compare.html` beside the first run. Runs that differ in nothing but name and seed are one setting.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from data_prep.disk import in_words
from data_prep.files import write_text
from recipe.evaluation.intervals import describe_interval
from recipe.evaluation.permutation_tests import holm, paired_permutation
from recipe.evaluation.results import MEASURE_NAMES, STAGE_NAMES, in_order, is_checkpoint, read_evaluation
from recipe.evaluation.seeds import Gain, across_runs, gain_over_seeds
from recipe.pages import figures
from recipe.pages.render import render_page
from recipe.run.files import read_config, read_metrics, read_state, run_folder
from recipe.run.flatten import flatten, load_config
from recipe.run.shortcuts import CONF

#: What may differ between the runs of one setting: name and seed, and where and how fast it ran.
_OWN = ("run.", "cluster.", "env.", "plan.", "evaluate.replicas", "evaluate.batch_rows")
#: The measures that are shown; runs of earlier versions lack the reward at fixed weights.
_COLUMNS = MEASURE_NAMES | {"macro_f1": "macro F1", "twin": "R, fixed weights"}


@dataclass(frozen=True)
class Run:
    """A run as the comparison sees it; ``settings`` maps dotted names to values as written."""

    folder: Path
    seed: int
    minutes: float
    settings: dict[str, Any]
    summaries: dict[str, dict[str, dict[str, Any]]]


def read_run(folder: Path) -> Run:
    """Read what a comparison needs.

    Raises:
        ValueError: a file is broken.
    """
    config = read_config(folder)
    # What has come up since a run was begun could not have been given there, so it stands as it does today.
    settings = {
        name: value
        for name, value in (_defaults() | flatten(OmegaConf.to_container(config))).items()
        if not name.startswith(_OWN)
    }
    seconds = sum(step["seconds"] for step in read_state(folder).values())
    return Run(folder, config.run.seed, seconds / 60, settings, read_evaluation(folder, "summary"))


def _defaults() -> dict[str, Any]:
    """Ours as `conf/self_emo.yaml` has them, but for what follows from others."""
    ours = flatten(OmegaConf.to_container(load_config(CONF / "self_emo.yaml")))
    return {name: value for name, value in ours.items() if "${" not in str(value)}


def settings_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Name of a setting (A, B, ...) -> its runs, in the order in which they were named."""
    known: list[list[Run]] = []
    for run in runs:
        same = next((group for group in known if group[0].settings == run.settings), None)
        if same is None:
            known.append([run])
        else:
            same.append(run)
    return {_letter(i): group for i, group in enumerate(known)}


def _letter(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else f"Z{i}"


def differences(groups: Mapping[str, Sequence[Run]]) -> list[tuple[str, list[Any]]]:
    """Settings that are not alike everywhere: name and each group's value (None where it is missing)."""
    first = [group[0].settings for group in groups.values()]
    names = sorted(set().union(*first))
    values = {name: [settings.get(name) for settings in first] for name in names}
    return [(name, found) for name, found in values.items() if any(v != found[0] for v in found)]


def difference_lines(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """The terminal's lines on `differences`, so that nobody wonders what setting B is."""
    return [
        f"{name}: "
        + ", ".join(f"{group} {'–' if v is None else v}" for group, v in zip(groups, values, strict=True))
        for name, values in differences(groups)
    ]


def shared_stages(runs: Sequence[Run]) -> list[str]:
    """The checkpoints that every run has scored.

    Raises:
        ValueError: there is none, or the corpora differ.
    """
    stages = in_order(set.intersection(*(set(run.summaries) for run in runs)))
    if not any(map(is_checkpoint, stages)):
        raise ValueError("the runs have no checkpoint that all of them scored")
    if len({frozenset(run.summaries[stage]) for run in runs for stage in stages}) > 1:
        raise ValueError("the runs were scored on different corpora")
    return stages


def means(runs: Sequence[Run], stages: Sequence[str]) -> dict[str, dict[str, dict[str, tuple]]]:
    """Checkpoint -> corpus -> measure -> (mean, standard deviation) over the runs of one setting."""
    return {stage: across_runs([run.summaries[stage] for run in runs]) for stage in stages}


def tests_between(groups: Mapping[str, Sequence[Run]], stages: Sequence[str]) -> list[dict[str, Any]]:
    """Paired tests between settings, per checkpoint: whole dialogues are swapped, after Holm.

    A row's accuracy and reward are means over the seeds of its setting, so the p-values speak of other
    dialogues, not of other seeds.

    Returns:
        For each pair and checkpoint that answered the same rows: ``first``, ``second``, ``stage``,
        ``accuracy_difference``, ``reward_difference`` (second minus first), ``accuracy_p``, ``reward_p``.
    """
    rows = {name: [read_evaluation(run.folder, "records") for run in group] for name, group in groups.items()}
    found = []
    for (first, second), stage in itertools.product(itertools.combinations(groups, 2), stages):
        if not all(stage in records for name in (first, second) for records in rows[name]):
            continue
        by_row = [_mean_rows([records[stage] for records in rows[name]]) for name in (first, second)]
        if not by_row[0] or by_row[0].keys() != by_row[1].keys():
            continue
        ids = sorted(by_row[0])
        dialogues = [by_row[0][i][0] for i in ids]
        line: dict[str, Any] = {"first": first, "second": second, "stage": stage}
        for place, measure in enumerate(("accuracy", "reward")):
            a, b = ([part[i][1][place] for i in ids] for part in by_row)
            line[f"{measure}_difference"] = float(np.mean(b) - np.mean(a))
            line[f"{measure}_p"] = paired_permutation(a, b, dialogues)
        found.append(line)
    for name in ("accuracy_p", "reward_p"):
        for line, p in zip(found, holm([line[name] for line in found]), strict=True):
            line[name] = p
    return found


def course(groups: Mapping[str, Sequence[Run]], stages: Sequence[str]) -> figures.Figure | None:
    """Accuracy over training of every setting and seed, and the baselines; None before two checkpoints."""
    trained = [stage for stage in stages if is_checkpoint(stage) and stage != "base"]
    if len(trained) < 2:
        return None
    settings = {
        _title(name, runs) if len(groups) > 1 else "mean of the seeds": [
            [run.summaries[stage]["avg"]["accuracy"] for stage in trained] for run in runs
        ]
        for name, runs in groups.items()
    }
    first = next(iter(groups.values()))[0].summaries
    baselines = {STAGE_NAMES[s]: first[s]["avg"]["accuracy"] for s in stages if not is_checkpoint(s)}
    return figures.seeds_chart([STAGE_NAMES[stage] for stage in trained], settings, baselines)


def _title(setting: str, runs: Sequence[Run]) -> str:
    """A setting by what the names of its runs have in common."""
    common = os.path.commonprefix([run.folder.name for run in runs]).rstrip("-_")
    common = common.removesuffix("-s") if len(runs) > 1 else common
    return f"{setting}: {common}" if common else setting


def gains_of(groups: Mapping[str, Sequence[Run]], stages: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracy from the first trained checkpoint to the last one, seed by seed, of every setting.

    Args:
        groups: setting -> its runs.
        stages: what all runs have scored, in the order of training.

    Returns:
        For each setting: its name as ``setting``, the checkpoints ``first`` and ``last``, and the ``gain`` of
        `recipe.evaluation.seeds.gain_over_seeds`. Settings without records of both are left out.
    """
    trained = [stage for stage in stages if is_checkpoint(stage) and stage != "base"]
    if len(trained) < 2:
        return []
    first, last = trained[0], trained[-1]
    found = []
    for setting, runs in groups.items():
        records = {_seed_name(run, runs): read_evaluation(run.folder, "records") for run in runs}
        pairs = {name: (r[first], r[last]) for name, r in records.items() if first in r and last in r}
        if pairs:
            found.append({"setting": setting, "first": first, "last": last, "gain": gain_over_seeds(pairs)})
    return found


def settings_by_seed(groups: Mapping[str, Sequence[Run]], stages: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracy of one setting against another, paired by seed and dialogue.

    Args:
        groups: setting -> its runs.
        stages: what all runs have scored.

    Returns:
        For each two settings and checkpoint: ``first``, ``second``, ``stage``, and the ``gain`` (second minus
        first) over the seeds that both have and that answered the same rows in both; none: left out.
    """
    records = {
        name: {run.seed: read_evaluation(run.folder, "records") for run in runs}
        for name, runs in groups.items()
    }
    found = []
    checkpoints = [stage for stage in stages if is_checkpoint(stage)]
    for (first, second), stage in itertools.product(itertools.combinations(groups, 2), checkpoints):
        pairs = {}
        for seed in sorted(records[first].keys() & records[second].keys()):
            a, b = (records[name][seed].get(stage, []) for name in (first, second))
            if a and {r["row_id"] for r in a} == {r["row_id"] for r in b}:
                pairs[f"seed {seed}"] = (a, b)
        if pairs:
            gain = gain_over_seeds(pairs)
            found.append({"first": first, "second": second, "stage": stage, "gain": gain})
    return found


def _seed_name(run: Run, runs: Sequence[Run]) -> str:
    """A run by its seed, or by its name where several runs have the same seed."""
    alone = sum(other.seed == run.seed for other in runs) == 1
    return f"seed {run.seed}" if alone else run.folder.name


def _mean_rows(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, tuple[str, tuple[float, float]]]:
    """row_id -> dialogue, (mean accuracy, mean reward); empty if the seeds answered different rows."""
    by_id = [{r["row_id"]: r for r in records} for records in seeds]
    if any(part.keys() != by_id[0].keys() for part in by_id):
        return {}
    return {
        row_id: (
            f"{r['corpus']}/{r['dialogue_id']}",
            (
                float(np.mean([part[row_id]["acc"] for part in by_id])),
                float(np.mean([part[row_id]["score"] for part in by_id])),
            ),
        )
        for row_id, r in by_id[0].items()
    }


def gain_lines(gains: Sequence[Mapping[str, Any]]) -> list[str]:
    """The terminal's lines on `gains_of`: each seed, and what the seeds say together."""
    lines = []
    for found in gains:
        gain: Gain = found["gain"]
        setting = f"setting {found['setting']}: " if len(gains) > 1 else ""
        first, last = (STAGE_NAMES[found[k]] for k in ("first", "last"))
        lines.append(f"{setting}accuracy from {first} to {last}, p of permutations of dialogues")
        lines += [
            f"  {one.seed:<26}{one.before:>8.3f} -> {one.after:.3f}  {one.difference:+.3f}  p = {one.p:.2g}"
            for one in gain.seeds
        ]
        spread = "" if gain.deviation is None else f" ± {gain.deviation:.3f}"
        over = "seeds and dialogues" if len(gain.seeds) > 1 else "dialogues alone"
        interval = describe_interval(gain.interval, "%+.3f")
        lines.append(f"  mean {gain.mean:+.3f}{spread}, {gain.describe()}, 95 % over {over}: {interval}")
    return lines


def table(groups: Mapping[str, Sequence[Run]], stages: Sequence[str]) -> str:
    """The terminal's table: avg over corpora, mean and standard deviation over the runs of a setting."""
    count = sum(map(len, groups.values()))
    lines = [f"{count} runs, mean and standard deviation of the held-out test splits, avg over corpora"]
    lines.append(f"{'checkpoint':<28}" + "".join(f"{name:>18}" for name in _COLUMNS.values()))
    for name, runs in groups.items():
        if len(groups) > 1:
            lines.append(f"setting {name}: {', '.join(run.folder.name for run in runs)}")
        for stage, by_corpus in means(runs, stages).items():
            values = (by_corpus["avg"].get(m) for m in _COLUMNS)
            cells = "".join(f"{with_spread(value, 3) if value else '–':>18}" for value in values)
            lines.append(f"{STAGE_NAMES[stage]:<28}{cells}")
    for run in itertools.chain(*groups.values()):
        n = run.summaries[stages[-1]]["avg"]["n"]
        lines.append(f"{run.folder.name}: seed {run.seed}, {n} test utterances, {run.minutes:.1f} min")
    return "\n".join(lines)


def with_spread(value: tuple[float, float], digits: int) -> str:
    """Mean ± standard deviation as text; a single run has only the former."""
    mean, deviation = (f"{x:.{digits}f}" for x in value)
    return mean if deviation == "nan" else f"{mean} ± {deviation}"


def compare_runs(folders: Sequence[Path]) -> tuple[str, Path]:
    """The table for the terminal, and the page, which lies beside the first run.

    Raises:
        ValueError: a run is named twice, or the runs share no scored checkpoint or no corpus.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a run is named twice")
    runs = [read_run(folder) for folder in folders]
    stages = shared_stages(runs)
    groups = settings_of(runs)
    curves = {
        run.folder.name + ("" if stage == "iter_1/rl" else f" {stage}"): entries
        for run in runs
        for stage, entries in read_metrics(run.folder).items()
        if stage.endswith("/rl")
    }
    gains = gains_of(groups, stages)
    page = render_page(
        "compare.html.j2",
        picture=course(groups, stages),
        columns=_COLUMNS,
        gains=gains,
        by_seed=settings_by_seed(groups, stages),
        groups=groups,
        differences=differences(groups),
        means={name: means(group, stages) for name, group in groups.items()},
        tests=tests_between(groups, [stage for stage in stages if is_checkpoint(stage)]),
        charts=figures.rl_charts(curves),
    )
    text = "\n".join([table(groups, stages), *difference_lines(groups), *gain_lines(gains)])
    return text, write_text(folders[0].parent / "compare.html", page)


def main() -> int:
    """Command line of `make compare`."""
    if len(sys.argv) < 3:
        print('error: name at least two runs, for instance make compare RUNS="a b"', file=sys.stderr)
        return 1
    try:
        text, page = compare_runs([run_folder(name) for name in sys.argv[1:]])
    except (ValueError, OSError) as error:
        print(f"error: {in_words(error, None) or error}", file=sys.stderr)
        return 1
    print(f"{text}\npage: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
