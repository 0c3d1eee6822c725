"""What `make bench` makes of its measurements."""

from __future__ import annotations

import pytest

from bench.__main__ import compare, report
from bench.rl_steps import summary
from bench.scaling import draw, exponent

SFT, ANSWERS = "SFT, s a step", "answers, prompts/s"
BEFORE = {
    SFT: {"ours": 0.2, "plain loop": 0.2},
    ANSWERS: {"ours": 90.0, "generate": 30.0},
}


def test_the_table_has_a_ratio_for_every_other_one(capsys):
    report({"RL, s a step": {"ours": 6.0, "stock veRL": 12.0, "TRL": 4.0}})
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert [row.split()[-3:] for row in rows] == [["6.00", "12.00", "0.50"], ["6.00", "4.00", "1.50"]]


@pytest.mark.parametrize(
    "now, said",
    [
        ({SFT: {"ours": 0.24, "plain loop": 0.24}}, []),
        ({SFT: {"ours": 0.3, "plain loop": 0.3}}, [f"grown by 50%: {SFT} (0.20 to 0.30)"]),
        ({SFT: {"ours": 0.2, "plain loop": 0.1}}, [f"grown by 100% beside plain loop: {SFT}"]),
        ({ANSWERS: {"ours": 180.0, "generate": 60.0}}, []),
        ({ANSWERS: {"ours": 60.0, "generate": 20.0}}, [f"grown by 50%: {ANSWERS} (90.00 to 60.00)"]),
        ({"new": {"ours": 1.0, "it": 9.0}}, []),
    ],
)  # fmt: skip
def test_what_grew_is_named(now, said, capsys):
    compare(now, BEFORE)
    assert capsys.readouterr().out.splitlines() == said


def test_a_step_is_the_median_after_a_turns_second():
    turns = [[10.0, 15.0, 17.0, 20.0], [12.0, 13.0, 15.0, 24.0]]
    assert list(summary(turns).values()) == [2.5, 11.0, 22.0]


def test_the_exponent_of_a_power_law(tmp_path):
    sizes = (4, 8, 16)
    assert exponent(sizes, [3 * s**0.7 for s in sizes]) == pytest.approx(0.7)
    draw({"a": [(s, s**0.7) for s in sizes], "b": [(1, 2.0), (2, 2.0)]}, tmp_path / "p.svg")
    assert "exponent 0.70" in (tmp_path / "p.svg").read_text()
