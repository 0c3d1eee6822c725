"""A/B judge (Fig. 3, Tables 8-11): which of two checkpoints answers better, asked blind and in both orders.

A judge that prefers the first place answers "1" twice; such a pair counts as a tie and shows up in the
position bias. `python -m recipe.evaluation.judge RUN A B --judge endpoint` (`make judge`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scipy import stats

from data_prep.experts.client import Answers, ExpertError, Request, Settings, ask_all, load_experts
from data_prep.experts.reading import read_dictionaries
from data_prep.files import cache_dir, write_json, write_text
from data_prep.rows import read_rows
from recipe.evaluation.results import is_checkpoint, scored_stages
from recipe.evaluation.statistics import cohen_kappa
from recipe.run.files import named_checkpoint, read_json, run_folder
from rewards.labels import corpus_labels
from rewards.parse import ParsedOutput, parse_output

ASPECTS = ("understanding", "expression")
VERDICTS = ("a", "b", "tie")
_COLUMNS = (
    ("a", 12, ".2f"),
    ("b", 12, ".2f"),
    ("tie", 8, ".2f"),
    ("p", 10, ".3g"),
    ("first_place", 13, ".2f"),
)
_PROMPT = Path(__file__).with_name("judge_prompt")


def read_verdict(text: str) -> dict[str, str]:
    """Aspect -> "1", "2" or "tie", from the dictionary of a judge's answer; a note may follow it.

    Raises:
        ValueError: what is wrong with the answer; also where two dictionaries of it contradict each other.
    """
    found = [_folded(dictionary) for dictionary in read_dictionaries(text)]
    if not found:
        raise ValueError("the answer ends with no dictionary")
    verdicts = [
        {aspect: _verdict(one[aspect]) for aspect in ASPECTS} for one in found if set(one) == set(ASPECTS)
    ]
    if not verdicts:
        raise ValueError(f"the dictionary must have the keys {' and '.join(ASPECTS)}, and no other")
    if any(verdict != verdicts[0] for verdict in verdicts):
        raise ValueError("two dictionaries contradict each other; the answer must hold one")
    return verdicts[0]


def _folded(dictionary: Mapping[str, Any]) -> dict[str, Any]:
    found = {key.strip().casefold(): value for key, value in dictionary.items()}
    if len(found) < len(dictionary):
        raise ValueError("the dictionary names an aspect twice")
    return found


def _verdict(value: Any) -> str:
    """What is meant by a number, or a word in any case."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = str(value).strip().rstrip(".").casefold() if isinstance(value, str | int) else ""
    if isinstance(value, bool) or said not in ("1", "2", "tie"):
        raise ValueError(f'{str(value)[:40]!r} is no verdict; each must be "1", "2" or "tie"')
    return said


def combine(a_first: str, b_first: str) -> str:
    """One verdict from both orders: a winner must win in both places.

    Args:
        a_first: verdict where A stood first.
        b_first: verdict where B stood first.

    Returns:
        ``a``, ``b`` or ``tie``.
    """
    first = {"1": "a", "2": "b"}.get(a_first, "tie")
    second = {"1": "b", "2": "a"}.get(b_first, "tie")
    return first if first == second else "tie"


def requests(pairs: Sequence[Mapping[str, Any]]) -> list[Request]:
    """Both orders of every pair."""
    asked = []
    for pair in pairs:
        for order, (first, second) in {"ab": ("a", "b"), "ba": ("b", "a")}.items():
            messages = _messages(pair, pair[first], pair[second])
            asked.append(Request(f"judge:{pair['row_id']}:{order}", messages, _complaint))
    return asked


def _complaint(text: str) -> str | None:
    try:
        read_verdict(text)
    except ValueError as error:
        return str(error)
    return None


def _messages(pair: Mapping[str, Any], first: ParsedOutput, second: ParsedOutput) -> list[dict[str, str]]:
    user = (_PROMPT / "user.txt").read_text(encoding="utf-8").strip()
    user = user.format(
        persona="{name}. {profile}".format(**pair["persona"]),
        context="\n".join(f"{turn['speaker']}: {turn['text']}" for turn in pair["context"]),
        first_emotions=_emotions(first),
        first_reply=first.my_output,
        second_emotions=_emotions(second),
        second_reply=second.my_output,
    )
    system = (_PROMPT / "system.txt").read_text(encoding="utf-8").strip()
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _shown(answer: ParsedOutput) -> tuple[str, str]:
    """All that a judge sees of an answer."""
    return _emotions(answer), answer.my_output


def _emotions(answer: ParsedOutput) -> str:
    total = sum(answer.my_emotions.values())
    ranked = sorted(answer.my_emotions.items(), key=lambda item: -item[1])
    return ", ".join(f"{label} {weight / total:.2f}" for label, weight in ranked)


def pairs_of(folder: Path, a: str, b: str, most: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """What two evaluated checkpoints of a run answered to the same prompts.

    Args:
        folder: the run's.
        a, b: stages, such as ``cold`` and ``retrained``.
        most: at most so many pairs, spread over the split; None: all.

    Returns:
        Pairs of answers that keep the rule, and how many prompts are left out because one does not.

    Raises:
        ValueError: a stage has not been evaluated, or no pair keeps the rule.
    """
    if a == b or (most is not None and most < 1):
        raise ValueError("judging takes two different checkpoints (A=, B=) and at least one pair (ROWS=)")
    answers = {}
    for stage in (a, b):
        path = folder / f"eval/{stage}/records.json"
        if not path.is_file():
            raise ValueError(f"{path} is missing: {stage!r} has not been evaluated in this run")
        answers[stage] = {r["row_id"]: r["answer"] for r in read_json(path)}
    pairs, left_out = [], 0
    for row in read_rows(folder / "data/test.parquet"):
        info, labels = row["extra_info"], corpus_labels(row["data_source"])
        if not all(info["row_id"] in answers[stage] for stage in (a, b)):
            continue
        said = {name: parse_output(answers[s][info["row_id"]], labels) for name, s in (("a", a), ("b", b))}
        if not all(answer.valid for answer in said.values()):
            left_out += 1
            continue
        context = [dict(turn) for turn in info["context"]]
        pairs.append({"row_id": info["row_id"], "persona": info["persona"], "context": context} | said)
    if not pairs:
        raise ValueError(f"no prompt has an answer of both {a} and {b} that keeps the rule")
    step = 1 if most is None else max(len(pairs) / most, 1)
    return [pairs[int(i * step)] for i in range(int(len(pairs) / step))], left_out


def verdicts(pairs: Sequence[Mapping[str, Any]], answers: Answers) -> dict[str, dict[str, Any]]:
    """One judge's verdict on every pair that it answered in both orders.

    Returns:
        row_id -> aspect -> ``a_first``, ``b_first``, ``verdict``; and under ``texts`` what it wrote.
    """
    found = {}
    for pair in pairs:
        names = [f"judge:{pair['row_id']}:{order}" for order in ("ab", "ba")]
        if not all(name in answers.texts for name in names):
            continue
        texts = [answers.texts[name] for name in names]
        first, second = (read_verdict(text) for _, text in texts)
        found[pair["row_id"]] = {
            aspect: {"a_first": first[aspect], "b_first": second[aspect],
                     "verdict": combine(first[aspect], second[aspect])}
            for aspect in ASPECTS
        } | {"texts": [text for _, text in texts]}  # fmt: skip
    return found


def summarise(judges: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Shares, a sign test, position bias and the judges' agreement, per aspect.

    Args:
        judges: judge -> `verdicts`.

    Returns:
        aspect -> ``judges`` (judge -> n, a, b, tie as shares, p of the two-sided sign test of a against
        b, first_place: share of the verdicts for a place that name the first; 0.5 is unbiased) and
        ``kappa`` of every two judges on the pairs that both judged.
    """
    names, summary = list(judges), {}
    for aspect in ASPECTS:
        table = {name: _shares([v[aspect] for v in judges[name].values()]) for name in names}
        kappa = {}
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                if both := sorted(judges[first].keys() & judges[second].keys()):
                    said = ([judges[j][row][aspect]["verdict"] for row in both] for j in (first, second))
                    kappa[f"{first}, {second}"] = cohen_kappa(*said)
        summary[aspect] = {"judges": table, "kappa": kappa}
    return summary


def _shares(said: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    counts = Counter(v["verdict"] for v in said)
    places = [v[order] for v in said for order in ("a_first", "b_first") if v[order] != "tie"]
    decided = counts["a"] + counts["b"]
    return {
        "n": len(said),
        **{verdict: counts[verdict] / len(said) if said else None for verdict in VERDICTS},
        "p": float(stats.binomtest(counts["a"], decided).pvalue) if decided else 1.0 if said else None,
        "first_place": places.count("1") / len(places) if places else None,
    }


def judge(folder: Path, a: str, b: str, settings: Settings, most: int | None = None) -> Path:
    """Ask every judge about every pair and write ``<run>/judge/<a>_<b>/{summary,verdicts}.json``.

    Args:
        folder: the run's.
        a, b: stages to compare.
        settings: each of its endpoints is a judge.
        most: at most so many pairs.

    Returns:
        The folder written.

    Raises:
        ValueError: as `pairs_of`; or the checkpoints answer alike; no verdict can be used.
        ExpertError: as `data_prep.experts.client.ask_all`.
    """
    pairs, left_out = pairs_of(folder, a, b, most)
    # A judge that samples could prefer one of two equal answers.
    asked = [pair for pair in pairs if _shown(pair["a"]) != _shown(pair["b"])]
    if not asked:
        raise ValueError(f"{a} and {b} answer all {len(pairs)} prompts alike; there is nothing to judge")
    target = folder / f"judge/{a}_{b}"
    target.mkdir(parents=True, exist_ok=True)
    judges, got, set_aside = {}, {}, {}
    for endpoint in settings.endpoints:
        alone = dataclasses.replace(settings, endpoints=(endpoint,))
        answers = ask_all(requests(asked), alone, cache_dir() / "judges", f"judge {endpoint.name}")
        judges[endpoint.name] = verdicts(asked, answers)
        got[endpoint.name] = answers
        if reasons := Counter(reject["reason"] for reject in answers.rejects):
            set_aside[endpoint.name] = {"n": reasons.total(), "reason": reasons.most_common(1)[0][0]}
        print(answers.summary(f"judge {endpoint.name}"), flush=True)
    if not any(judges.values()):  # what an earlier command wrote is kept
        lines = "".join(json.dumps(reject) + "\n" for answers in got.values() for reject in answers.rejects)
        path = write_text(target / "rejects.jsonl", lines)
        raise ValueError(f"no verdict can be used; what was said instead: {path}")
    for name, answers in got.items():
        answers.write(target / f"verdicts-{quote(name, safe='')}", judges[name])
    summary = {"a": a, "b": b, "pairs": len(asked), "left_out": left_out, "alike": len(pairs) - len(asked)}
    summary["set_aside"] = set_aside
    summary["aspects"] = summarise(judges)
    write_json(target / "summary.json", summary)
    print(render(summary))
    return target


def render(summary: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    a, b = summary["a"], summary["b"]
    lines = [
        f"{summary['pairs']} pairs; left out are {summary['left_out']} prompts where an answer breaks the "
        f"rule, and {summary['alike']} where both answers are alike",
        f"{'aspect':<15}{'judge':<18}{'n':>6}{a:>12}{b:>12}{'tie':>8}{'p (sign)':>10}{'first place':>13}",
    ]
    for aspect, found in summary["aspects"].items():
        for name, row in found["judges"].items():
            shown = "".join(
                f"{'–' if row[k] is None else format(row[k], form):>{w}}" for k, w, form in _COLUMNS
            )
            lines.append(f"{aspect:<15}{name:<18}{row['n']:>6}{shown}")
        lines += [f"{aspect:<15}kappa of {names}: {kappa:.2f}" for names, kappa in found["kappa"].items()]
    for name, aside in summary["set_aside"].items():
        lines.append(f"{name}: {aside['n']} answers set aside, most often because {aside['reason']}")
    return "\n".join(lines)


def main() -> int:
    """Command line of `make judge`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="name or folder")
    parser.add_argument("a", help="a scored checkpoint, such as cold")
    parser.add_argument("b", help="another, such as retrained (of the last iteration) or rl_1")
    parser.add_argument("--judge", default="endpoint", help="a file of conf/expert; each endpoint is a judge")
    parser.add_argument("--rows", type=int, help="at most so many pairs")
    args = parser.parse_args()
    try:
        folder = run_folder(args.run)
        if (settings := load_experts(args.judge)) is None:
            raise ExpertError("there is no offline judge; name an endpoint: --judge endpoint or mixed")
        scored = [stage for stage in scored_stages(folder) if is_checkpoint(stage)]
        first, second = (named_checkpoint(scored, stage) for stage in (args.a, args.b))
        judge(folder, first, second, settings, args.rows)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
