"""What a judge is asked about a pair of answers, and what its verdicts come to.

Understanding (T_s: what the persona feels) and expression (T_r: its reply) are asked in requests of their
own, so that a good reply cannot lend its shine to the feelings, each in both orders.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.experts.client import Answers, Request
from data_prep.experts.reading import read_dictionaries
from recipe.evaluation.judge_pairs import Pair
from recipe.evaluation.kappa import cohen_kappa
from rewards.parse import ParsedOutput

ASPECTS = ("understanding", "expression")
VERDICTS = ("a", "b", "tie")
ORDERS = {"ab": ("a", "b"), "ba": ("b", "a")}
_PROMPT = Path(__file__).with_name("judge_prompt")


def requests(pairs: Sequence[Pair]) -> list[Request]:
    """Both orders of every pair, per aspect; what an aspect shows alike is not asked about."""
    return [
        Request(_name(pair, aspect, order), _messages(pair, aspect, *sides), _complaint)
        for aspect in ASPECTS
        for pair in pairs
        if not alike(pair, aspect)
        for order, sides in ORDERS.items()
    ]


def alike(pair: Pair, aspect: str) -> bool:
    """Is all that a judge would see of the answers the same? One that samples could still prefer one."""
    return _shown(pair.said["a"], aspect) == _shown(pair.said["b"], aspect)


def _name(pair: Pair, aspect: str, order: str) -> str:
    return f"judge:{pair.row_id}:{aspect}:{order}"


def _shown(answer: ParsedOutput, aspect: str) -> dict[str, str]:
    total = sum(answer.my_emotions.values())
    ranked = sorted(answer.my_emotions.items(), key=lambda item: -item[1])
    shown = {"emotions": ", ".join(f"{label} {weight / total:.2f}" for label, weight in ranked)}
    return shown if aspect == "understanding" else shown | {"reply": answer.my_output}


def _messages(pair: Pair, aspect: str, first: str, second: str) -> list[dict[str, str]]:
    parts = {
        f"{place}_{part}": text
        for place, side in (("first", first), ("second", second))
        for part, text in _shown(pair.said[side], aspect).items()
    }
    system, user = (
        (_PROMPT / f"{name}.txt").read_text(encoding="utf-8").strip() for name in ("system", aspect)
    )
    user = user.format(
        persona="{name}. {profile}".format(**pair.persona),
        context="\n".join(f"{turn['speaker']}: {turn['text']}" for turn in pair.context),
        **parts,
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def read_verdict(text: str) -> str:
    """ "1", "2" or "tie", from the dictionary of a judge's answer; a note may follow it.

    Raises:
        ValueError: what is wrong with the answer; also where two dictionaries of it contradict each other.
    """
    found = [_folded(dictionary) for dictionary in read_dictionaries(text)]
    if not found:
        raise ValueError("the answer ends with no dictionary")
    said = [_verdict(one["verdict"]) for one in found if set(one) == {"verdict"}]
    if not said:
        raise ValueError("the dictionary must have the key verdict, and no other")
    if any(verdict != said[0] for verdict in said):
        raise ValueError("two dictionaries contradict each other; the answer must hold one")
    return said[0]


def _folded(dictionary: Mapping[str, Any]) -> dict[str, Any]:
    found = {_plain(key): value for key, value in dictionary.items()}
    if len(found) < len(dictionary):
        raise ValueError("the dictionary names a key twice")
    return found


def _plain(word: str) -> str:
    """Without white space, capitals and the full width that Chinese models write letters and digits in."""
    return unicodedata.normalize("NFKC", word).strip().casefold()


def _verdict(value: Any) -> str:
    """What is meant by a number, or a word in any case."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = _plain(str(value)).rstrip(".") if isinstance(value, str | int) else ""
    if isinstance(value, bool) or said not in ("1", "2", "tie"):
        raise ValueError(f'{str(value)[:40]!r} is no verdict; it must be "1", "2" or "tie"')
    return said


def _complaint(text: str) -> str | None:
    try:
        read_verdict(text)
    except ValueError as error:
        return str(error)
    return None


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


def verdicts(pairs: Sequence[Pair], answers: Answers) -> dict[str, dict[str, dict[str, Any]]]:
    """One judge's verdict on every pair and aspect that it answered in both orders.

    Returns:
        row_id -> aspect -> ``a_first``, ``b_first``, ``verdict``, and ``texts``: its reasoning, of the
        request with A first, then of that with B first.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for pair in pairs:
        for aspect in ASPECTS:
            names = [_name(pair, aspect, order) for order in ORDERS]
            if not all(name in answers.texts for name in names):
                continue
            texts = [answers.texts[name][1] for name in names]
            first, second = map(read_verdict, texts)
            found.setdefault(pair.row_id, {})[aspect] = {
                "a_first": first,
                "b_first": second,
                "verdict": combine(first, second),
                "texts": texts,
            }
    return found


def summarise(judges: Mapping[str, Mapping[str, Mapping[str, Any]]], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Shares, a sign test, position bias and the judges' agreement, per aspect.

    Args:
        judges: judge -> `verdicts`.
        pairs: all pairs.

    Returns:
        aspect -> ``judges`` (judge -> n, a, b, tie as shares, p of the two-sided sign test of a against
        b, first_place: share of the verdicts for a place that name the first; 0.5 is unbiased); ``kappa`` of
        every two judges on the pairs that both judged; ``alike``: pairs that were not judged, because the
        answers show the same.
    """
    names, summary = list(judges), {}
    for aspect in ASPECTS:
        said = {
            name: {row_id: found[aspect] for row_id, found in judges[name].items() if aspect in found}
            for name in names
        }
        kappa = {}
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                if both := sorted(said[first].keys() & said[second].keys()):
                    labels = ([said[judge][row]["verdict"] for row in both] for judge in (first, second))
                    kappa[f"{first}, {second}"] = cohen_kappa(*labels)
        summary[aspect] = {
            "judges": {name: _shares(list(found.values())) for name, found in said.items()},
            "kappa": kappa,
            "alike": sum(alike(pair, aspect) for pair in pairs),
        }
    return summary


def _shares(said: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    from scipy.stats import binomtest

    counts = Counter(v["verdict"] for v in said)
    places = [v[order] for v in said for order in ("a_first", "b_first") if v[order] != "tie"]
    decided = counts["a"] + counts["b"]
    return {
        "n": len(said),
        **{verdict: counts[verdict] / len(said) if said else None for verdict in VERDICTS},
        "p": float(binomtest(counts["a"], decided).pvalue) if decided else 1.0 if said else None,
        "first_place": places.count("1") / len(places) if places else None,
    }
