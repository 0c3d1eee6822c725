"""The page of a run: what stands on it."""

from __future__ import annotations

import html
import json
import re
import shutil

import pyarrow.parquet as pq

from recipe.evaluation.gold_probability import gold_probability
from recipe.evaluation.measures import MEASURES
from recipe.evaluation.results import MEASURE_NAMES, read_evaluation, read_summaries
from recipe.evaluation.rl_stages import groups_of, read_rl_stages
from recipe.pages import report
from recipe.pages.report import print_results, step_parts, write_report
from recipe.pages.rollout_browser import shown_groups
from recipe.run.table12 import against_paper


def test_the_page_stands_alone_and_starts_with_the_headline_table(page):
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page) and "@import" not in page
    first = page[page.index("<table") : page.index("</table>")]
    for name in ("majority class", "macro F1", "keeps the rule"):
        assert name in first
    assert first.count("<tr>") == 1 + 3  # a head, first and last checkpoint, the better baseline
    assert page.index('<figure class="course">') < page.index('class="sentence"') < page.index("<table")
    folded = page[page.index('<h2 id="splits">') :]
    assert "after RL" in folded and "weighted F1" in folded and "avg" in folded
    assert page.count("<figure") == page.count("<figcaption>") == page.count("<svg") >= 10
    for part in ("same mistake again", "wrong consensus", "distinct-2", "label divergence", "support", "ECE"):
        assert part in page
    assert "dev: meld/acc/mean@1" in page and "A step of iter_1/rl takes" in page
    assert (
        "verl" in page and "torch" in page and "<th>this run</th></tr>\n<tr><td>self-emo (git commit)" in page
    )


def test_all_but_the_headline_is_folded(page):
    """Picture, sentence, three lines; each heading after them is a fold, and each fold has a link."""
    body = page[page.index("<h1") : page.index("<script>")]
    depth, outside = 0, ""
    for piece in re.split(r"(<details[^>]*>|</details>)", body):
        if piece.startswith("<details"):
            depth += 1
        elif piece == "</details>":
            depth -= 1
        elif not depth:
            outside += piece
        assert depth >= 0
    assert depth == 0
    assert outside.count("<table") == outside.count("<figure") == 1 and "<h2" not in outside
    assert not re.search(r'<details class="section"[^>]*open', page)
    linked = re.findall(r'href="#(\w+)"', page[page.index("<nav") : page.index("</nav>")])
    assert linked and linked == re.findall(r'<details class="section"><summary><h2 id="(\w+)">', page)


def test_the_page_takes_rewards_apart(run, page):
    """Recognition or confidence, pass@n, r2's information, own emotions, replies and B's own accuracy."""
    part = page[page.index('<h2 id="gains">') : page.index('<h2 id="circularity">')]
    table = read_summaries(run, read_evaluation(run, "records"))["rl"]["avg"]
    for key in ("twin", "sharp_one", "sharp_three", "top_weight", "gold_weight", "majority_share"):
        assert f"<td>{table[key]:.3f}</td>" in part
    for words in ("pass@n", "majority vote right", "r2 of right minus wrong", "Cohen", "always neutral"):
        assert words in part
    assert part.count("<figure>") == 6  # per RL step
    p_gold = part[part.index("<tr><th>p(gold)") :]
    for name in ("records", "records_train"):
        records = [r for r in read_evaluation(run, name)["rl"] if r["corpus"] == "meld"]
        assert f"<td>{gold_probability(records)['meld'].mean:.3f}<span" in p_gold
    assert f"</td><td>{sum(r['acc'] for r in records) / len(records):.3f}</td></tr>" in p_gold
    own = json.loads((run / "eval/rl/own_emotions.json").read_text())
    for corpus in ("meld", "iemocap", "emorynlp"):
        row = own["understanding"][corpus]
        assert f'<td class="t">{corpus}</td><td>{row["n"]}</td><td>{row["mine"]:.3f}</td>' in part
    stages = read_rl_stages(run)
    gold = [group for group in stages[0].groups if not group.self_labelled]
    assert f"<td>{sum(group.passed for group in gold) / len(gold):.3f}</td>" in part
    kept = json.loads((run / "eval/training.json").read_text())
    assert [len(kept["steps"][name]) for name in ("iter_1/rl", "iter_2/rl")] == [6, 6]
    assert len(kept["buffers"]) == 3
    for key in ("pass_at_n", "twin", "sharp_one", "sharp_three", "gold_weight", "top_weight", "named", "ece"):
        assert kept["steps"]["iter_1/rl"][0][key] is not None
    rows = page[page.index("responses right on gold rows") :]
    assert "rollout 2" in rows and "<td>iter_2</td>" in rows


def test_tests_on_the_page_permute_dialogues(page):
    assert "McNemar" not in page and "p of permutations of whole dialogues" in page


def test_a_collapse_stands_on_the_page(tmp_path, run):
    """Planted: after RL every answer is the corpus's first label, and earns more."""
    planted = shutil.copytree(run, tmp_path / "planted")
    for stage, score in (("cold", 0.1), ("rl", 0.9)):
        path = planted / f"eval/{stage}/records.json"
        records = json.loads(path.read_text())
        for r in records:
            if stage == "rl":
                r |= {"pred": "Neutral" if r["corpus"] == "emorynlp" else "neutral"}
            else:
                r |= {"pred": r["gold"]}
            r |= {"acc": float(r["pred"] == r["gold"]), "valid": 1.0, "reason": "", "score": score}
            r["parsed"] = json.dumps(json.loads(r["parsed"]) | {"last_emotions": {r["pred"]: 1.0}})
        path.write_text(json.dumps(records))
    text = html.unescape(write_report(planted).read_text())
    titles = [alarm["title"] for alarm in json.loads((planted / "eval/alarms.json").read_text())]
    assert any(title.startswith("the answers collapse") for title in titles)
    assert "WARNING</b>: the answers collapse: reward up, macro-F1 down" in text[: text.index("<h2")]
    assert "From after cold start to after RL the mean reward rose from 0.100 to 0.900" in text


def test_what_a_model_wrote_stays_text(page):
    assert "&lt;script&gt;throw 1" in page and "<script>throw" not in page


def test_settings_that_differ_from_the_paper_are_marked(page):
    assert re.search(r'class="differs"><td>data.train_batch_size</td><td>64</td><td>4</td>', page)
    assert "<tr><td>actor_rollout_ref.actor.kl_loss_coef</td><td>0.001</td><td>0.001</td>" in page
    assert re.search(r'class="differs"><td>trainer.save_freq</td><td>480</td><td>–</td>', page)


def test_the_papers_own_settings_agree_with_table_12(root):
    from omegaconf import OmegaConf

    config = OmegaConf.merge(
        OmegaConf.load(root / "conf/experiment/paper_exact.yaml"), {"base": {"name": "Qwen3-8B"}}
    )
    lines = against_paper(config)
    assert all(line["same"] for line in lines) and len(lines) == 26
    values = {line["name"]: line["paper"] for line in lines}
    assert values["actor_rollout_ref.actor.optim.lr"] == 1e-6 and values["trainer.test_freq"] == 10


def test_groups_on_the_page(run):
    stages = read_rl_stages(run)
    assert [stage.name for stage in stages] == ["iter_1/rl", "iter_2/rl"]
    everything = shown_groups(stages, most=1000)
    assert len(everything) == sum(len(stage.groups) for stage in stages)
    few = shown_groups(stages, most=5)
    assert [g["place"] for g in few][:: len(few) - 1] == ["iter_2/rl/6", "iter_1/rl/1"]
    for group in everything:
        assert sum(r["best"] for r in group["rollouts"]) == 1 and group["rollouts"][0]["best"]
    entered = [r for g in everything if g["stage"] == "iter_2/rl" for r in g["rollouts"] if r["enters_b"]]
    rows = pq.read_table(run / "iter_2/buffer/buffer.parquet").to_pylist()
    kept = {row["response"] for row in rows if (row["response_from"] or {}).get("iteration") == 2}
    assert {r["response"] for r in entered} == kept
    assert any(r["think"] and r["rest"].startswith("{") for r in everything[0]["rollouts"])


def test_what_may_be_chance_is_told_where_it_is_explained_and_is_no_warning(tmp_path, run, monkeypatch):
    """Planted: in the last RL stage gold prompts go wrong while self-labelled ones earn more and more, in
    too few dialogues to be sure."""
    planted = shutil.copytree(run, tmp_path / "planted")
    for path in sorted((planted / "iter_2/rl/rollouts").glob("*.parquet")):
        records = pq.read_table(path).to_pylist()
        late = records[0]["step"] > 3
        for r in records:
            if ":self:" in r["row_id"]:
                r["score"] = 1.1 if late else 0.1
            else:
                r["acc"] = 0.0 if late else 1.0
        pq.write_table(pq.read_table(path).schema.empty_table().from_pylist(records), path)
    monkeypatch.setattr(report, "shown_groups", lambda stages: [])  # quicker
    text = write_report(planted).read_text()
    assert "WARNING" not in text and "<b>No clear change</b>: From the first steps of iter_2/rl" in text
    assert "This may be chance." in text and "No clear change" not in text[: text.index("<h2")]
    assert (
        "From the first steps of iter_2/rl to its last steps accuracy on gold labels fell from 1.000" in text
    )
    assert "R on self-labelled prompts rose from 0.100 to 1.100" in text


def test_no_warning_where_none_is_due(page):
    assert "WARNING" not in page and "No warning" in page


def test_the_terminal_says_the_names_of_the_page(page, run, capsys):
    print_results(run)
    text = capsys.readouterr().out
    head = text.strip().splitlines()[0]
    for name in ("checkpoint", "accuracy", "weighted F1", "keeps the rule", "mean reward"):
        assert name in head and f">{name}</th>" in page
    sentence = text.strip().splitlines()[-1]
    assert sentence.startswith("On 36 held-out utterances accuracy went from")
    assert sentence in html.unescape(page)
    assert all(f">{name}</th>" in page for name in MEASURE_NAMES.values())


def test_a_run_from_before_a_measure_of_the_headline_tables_is_read(tmp_path, run, page, capsys):
    old = shutil.copytree(run, tmp_path / "old")
    cold = json.loads((old / "eval/cold/summary.json").read_text())
    clean = {corpus: {**measures, "n": 1} for corpus, measures in cold.items()}
    values = {m: {"mean": 0.5, "low": 0.25, "high": 0.75, "values": [0.25, 0.75]} for m in MEASURES}
    (old / "eval/cold/summary_clean.json").write_text(json.dumps(clean))
    (old / "eval/cold/summary_paraphrases.json").write_text(json.dumps({"avg": values}))
    for path in old.glob("eval/*/summary*.json"):
        table = json.loads(path.read_text())
        for measures in table.values():
            measures.pop("weighted_f1", None)
        path.write_text(json.dumps(table))
    text = write_report(old).read_text()
    part = text[text.index('<h2 id="splits">') : text.index('<h2 id="labels">')]
    assert f"<td>{cold['avg']['weighted_f1']:.3f}<span" in part  # from the records
    assert f"avg</td><td>1</td><td>{cold['avg']['accuracy']:.3f}</td><td>–</td>" in text
    assert "0.750</span></td><td>–</td><td>0.500<span" in part
    print_results(old)
    assert f"{cold['avg']['weighted_f1']:.3f}" in capsys.readouterr().out


def test_broken_answers_are_told_in_both_ways(page, run, capsys):
    table = read_summaries(run, read_evaluation(run, "records"))["cold"]["avg"]
    assert (
        table["accuracy_nearest"] > table["accuracy"]
    )  # one answer in ten names a label and breaks the rule
    part = page[page.index('<h2 id="splits">') : page.index('<h2 id="labels">')]
    print_results(run)
    said = capsys.readouterr().out
    for name, measure in (
        ("accuracy, nearest", "accuracy_nearest"),
        ("weighted F1, nearest", "weighted_f1_nearest"),
    ):
        assert f"<th>{name}</th>" in part and f"<td>{table[measure]:.3f}</td>" in part
        assert name in said.splitlines()[1] and f"{table[measure]:.3f}" in said
    assert "kappa 0.43" not in part  # the dialogues are made up


def test_other_wordings_and_what_a_corpus_allows_stand_on_the_page(tmp_path, run, capsys):
    told = shutil.copytree(run, tmp_path / "told")
    values = {
        measure: {"mean": 0.5, "low": 0.25, "high": 0.75, "values": [0.25, 0.75]} for measure in MEASURES
    }
    (told / "eval/rl/summary_paraphrases.json").write_text(json.dumps({"meld": values, "avg": values}))
    config = (told / "config.yaml").read_text()
    (told / "config.yaml").write_text(config.replace("raw_dir: null", "raw_dir: /raw"))
    text = html.unescape(write_report(told).read_text())
    assert '<td>after RL</td><td class="t">meld</td><td>2</td><td>0.500<span' in text
    assert "0.250 to 0.750" in text
    assert "worth: its three annotators agree with Fleiss' kappa 0.43 (Poria et al. 2019" in text
    print_results(told)
    assert "after RL, in 2 other wordings of the prompt:" in capsys.readouterr().out


def test_what_held_out_dialogues_show_stands_on_the_page(tmp_path, run):
    copy = shutil.copytree(run, tmp_path / "held_out")
    (copy / "iter_1/self_play").mkdir(parents=True, exist_ok=True)
    found = {
        "gold": {"n": 16, "iou": 0.25, "valid": 1.0},
        "turn_1": {"n": 8, "iou": 0.5, "valid": 0.875},
        "entropy": {"answers": 4, "last_emotions": 0.125, "my_emotions": 0.25, "my_output": 0.375},
    }
    (copy / "iter_1/self_play/held_out.json").write_text(json.dumps(found))
    text = write_report(copy).read_text()
    row = "<tr><td>self-play of iteration 1</td><td>"
    assert f"{row}their own utterances</td><td>16</td><td>0.250</td><td>1.000</td></tr>" in text
    assert f"{row}sequels, turn 1</td><td>8</td><td>0.500</td><td>0.875</td></tr>" in text
    assert "iteration 1 recognition 0.125, own emotions 0.250, reply 0.375." in text


def test_the_page_says_what_a_run_cost(tmp_path, run, page):
    assert "No GPU. Nothing was asked of an endpoint" in page
    paid = shutil.copytree(run, tmp_path / "paid")
    config = (paid / "config.yaml").read_text().replace("profile: cpu", "profile: gpu")
    trainer = "trainer: {n_gpus_per_node: 8, nnodes: 2, "
    (paid / "config.yaml").write_text(config.replace("trainer: {", trainer))
    (paid / "state.json").write_text(
        json.dumps({"steps": {name: {"seconds": 900.0} for name in ("data", "iter_1/rl")}})
    )
    usage = {"asked": 3, "cached": 4, "prompt_tokens": 7000, "answer_tokens": 800, "price": 12.345}
    for name in ("data/personas", "judge/cold_rl/verdicts-one"):
        path = paid / f"{name}.usage.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(usage))
    text = write_report(paid).read_text()
    assert "16 GPUs, held for 8.00 GPU-hours (<code>plan.dollars" in text  # 16 of them for half an hour
    row = "<td>7</td><td>7000</td><td>800</td><td>12.35</td>"
    assert f"<td>data/personas</td>{row}" in text and f"<td>judge/cold_rl/verdicts-one</td>{row}" in text
    with (paid / "config.yaml").open("a") as file:
        file.write("plan: {dollars_per_gpu_hour: 2.5}\n")
    assert "8.00 GPU-hours: 20.00 dollars." in write_report(paid).read_text()


def test_judged_pairs_are_shown_with_the_judges_reasoning(run, tmp_path):
    judged = shutil.copytree(run, tmp_path / "judged")
    folder = judged / "judge/early_1_late_1"
    folder.mkdir(parents=True)
    shares = {"n": 1, "a": 0.0, "b": 1.0, "tie": 0.0, "p": 1.0, "first_place": 0.5}
    aspect = {"judges": {"lab/one": shares}, "kappa": {}, "alike": 3}
    verdict = {"verdict": "b", "texts": ["First the person <b>.", "Once more."]}
    content = {
        "summary": {"a": "early_1", "b": "late_1", "pairs": 4, "left_out": 2,
                    "set_aside": {"lab/one": {"n": 3, "reason": "no_dict"}},
                    "aspects": {"expression": aspect}},
        "pairs": {"meld:x": {"persona": {"name": "Ann", "profile": "is glad"}, "label": {"joy": 1.0},
                             "context": [{"speaker": "Bob", "text": "Hi there."}],
                             "a": "<think>hm</think>{early}", "b": "<think>so</think>{late}"}},
        "verdicts-lab%2Fone": {"meld:x": {"expression": verdict}},
    }  # fmt: skip
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    text = write_report(judged).read_text()
    assert "A/B judge: early in RL 1 against late in RL 1" in text
    assert "Not asked about expression: 3 pairs that are alike in it." in text
    assert "meld:x, label joy 1.00: expression late in RL 1 (lab/one)" in text
    assert "<code>judge/early_1_late_1/verdicts-lab%2Fone.rejects.jsonl</code>" in text
    for shown in (
        "Bob: Hi there.",
        "<pre>{early}</pre>",
        "<pre>First the person &lt;b&gt;.</pre>",
        "Once more.",
    ):
        assert shown in text


def test_parts_of_a_step_are_means_without_the_first():
    def entry(**seconds):
        return {"data": {f"timing_s/{name}": value for name, value in seconds.items()}}

    entries = [
        entry(gen=90.0, step=99.0),
        {"data": {"self_emo/reward": 0.5}},  # ended by a kill between its checkpoint and its times
        entry(gen=2.0, step=5.0, save_checkpoint=2.0),
        entry(gen=4.0, step=5.0),
    ]
    parts = step_parts(entries)
    assert parts == {"generation and reward": 3.0, "checkpoints": 1.0, "everything else": 1.0}
    assert step_parts(entries[:1]) == {} == step_parts([])


def test_a_file_holds_its_groups(run):
    groups = dict(groups_of(run / "iter_1/rl/rollouts/step_000001.parquet", without=("response",)))
    assert all(len(rollouts) == 4 and "response" not in rollouts[0] for rollouts in groups.values())
