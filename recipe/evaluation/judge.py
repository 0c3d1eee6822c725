"""A/B judge (Fig. 3, Tables 8-11): which of two checkpoints answers better, asked blind and in both orders.

Two moments of an RL stage can be compared as well: `recipe.evaluation.judge_pairs` says what is paired,
`recipe.evaluation.verdicts` what is asked. A judge that prefers the first place answers "1" twice; such a
pair counts as a tie and shows up in the position bias.

`python -m recipe.evaluation.judge RUN A B --judge endpoint` (`make judge`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.disk import in_words
from data_prep.experts.client import ExpertError, Settings, ask_all, load_experts
from data_prep.files import cache_dir, write_json, write_text
from recipe.evaluation.judge_pairs import find_pairs, full_names
from recipe.evaluation.verdicts import requests, summarise, verdicts
from recipe.run.files import run_folder, verdicts_name

_COLUMNS = (
    ("a", 12, ".2f"),
    ("b", 12, ".2f"),
    ("tie", 8, ".2f"),
    ("p", 10, ".3g"),
    ("first_place", 13, ".2f"),
)


def judge(folder: Path, a: str, b: str, settings: Settings, most: int | None = None) -> Path:
    """Ask every judge about every pair and write ``<run>/judge/<a>_<b>/{summary,pairs,verdicts-*}.json``.

    Args:
        folder: the run's.
        a, b: what to compare, as `full_names` gives it.
        settings: each of its endpoints is a judge.
        most: at most so many pairs.

    Returns:
        The folder written.

    Raises:
        ValueError: as `find_pairs`; or all answers are alike; no verdict can be used.
        ExpertError: as `data_prep.experts.client.ask_all`.
    """
    pairs, left_out = find_pairs(folder, a, b, most)
    asked = requests(pairs)
    if not asked:
        raise ValueError(f"{a} and {b} answer all {len(pairs)} prompts alike; there is nothing to judge")
    target = folder / f"judge/{a}_{b}"
    target.mkdir(parents=True, exist_ok=True)
    judges, got, set_aside = {}, {}, {}
    for endpoint in settings.endpoints:
        alone = dataclasses.replace(settings, endpoints=(endpoint,))
        answers = ask_all(asked, alone, cache_dir() / "judges", f"judge {endpoint.name}")
        judges[endpoint.name] = verdicts(pairs, answers)
        got[endpoint.name] = answers
        if reasons := Counter(reject["reason"] for reject in answers.rejects):
            set_aside[endpoint.name] = {"n": reasons.total(), "reason": reasons.most_common(1)[0][0]}
        print(answers.summary(f"judge {endpoint.name}"), flush=True)
    if not any(judges.values()):  # what an earlier command wrote is kept
        lines = "".join(json.dumps(reject) + "\n" for answers in got.values() for reject in answers.rejects)
        path = write_text(target / "rejects.jsonl", lines)
        raise ValueError(f"no verdict can be used; what was said instead: {path}")
    for name, answers in got.items():
        answers.write(target / verdicts_name(name), judges[name])
    shown = ("persona", "context", "label", "a", "b")
    write_json(target / "pairs.json", {p.row_id: {name: getattr(p, name) for name in shown} for p in pairs})
    summary = {"a": a, "b": b, "pairs": len(pairs), "left_out": left_out, "set_aside": set_aside}
    summary["aspects"] = summarise(judges, pairs)
    write_json(target / "summary.json", summary)
    print(render(summary))
    return target


def render(summary: Mapping[str, Any]) -> str:
    """The table for a terminal."""
    a, b = summary["a"], summary["b"]
    lines = [
        f"{summary['pairs']} pairs; {summary['left_out']} prompts are left out: an answer breaks the rule",
        f"{'aspect':<15}{'judge':<18}{'n':>6}{a:>12}{b:>12}{'tie':>8}{'p (sign)':>10}{'first place':>13}",
    ]
    for aspect, found in summary["aspects"].items():
        if found["alike"]:
            lines.append(f"{aspect:<15}not asked about {found['alike']} pairs that are alike")
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
    parser.add_argument("a", help="a scored checkpoint, such as cold; or early, the first quarter of RL")
    parser.add_argument("b", help="another, such as retrained (of the last iteration) or rl_1; or late")
    parser.add_argument("--judge", default="endpoint", help="a file of conf/expert; each endpoint is a judge")
    parser.add_argument("--rows", type=int, help="at most so many pairs")
    args = parser.parse_args()
    try:
        folder = run_folder(args.run)
        if (settings := load_experts(args.judge)) is None:
            raise ExpertError("there is no offline judge; name an endpoint: --judge endpoint or mixed")
        judge(folder, *full_names(folder, args.a, args.b), settings, args.rows)
    except (ValueError, OSError) as error:
        print(f"error: {in_words(error, None) or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
