"""A browser can use the page of a run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from recipe.pages.report import write_report
from tests.unit.clustered_run import make_clustered_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page in")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run with clusters."""
    return make_clustered_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="module")
def page(run) -> str:
    """Its page."""
    return write_report(run).read_text(encoding="utf-8")


def dumped(path: Path, fragment: str = "") -> str:
    """The page's DOM after its script has run; fails on anything that the script complains about."""
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
            "--virtual-time-budget=5000", "--dump-dom", f"file://{path}{fragment}",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    return done.stdout


def shown(dom: str) -> list[tuple[dict[str, str], list[dict[str, str]]]]:
    """The groups that a DOM does not hide, with the rollouts that it does not hide."""
    found = []
    for group in re.split(r'(?=<details class="group")', dom)[1:]:
        tag = group[: group.index(">")]
        rollouts = [
            dict(re.findall(r'data-(\w+)="([^"]*)"', tag)) | {"text": text}
            for tag, text in re.findall(r'(<div class="rollout[^>]*>)(.*?)</div>', group, flags=re.S)
            if "hidden" not in tag
        ]
        if "hidden" not in tag:
            found.append((dict(re.findall(r'data-(\w+)="([^"]*)"', tag)), rollouts))
    return found


def test_the_filters_work_in_a_browser(run, page):
    everything = shown(page)
    rollouts = sum(len(r) for _, r in everything)
    assert len(everything) == page.count('<details class="group"') > 20 and rollouts == 4 * len(everything)
    dom = dumped(run / "report.html", "#corpus=meld&valid=0")
    some = shown(dom)
    assert some and {group["corpus"] for group, _ in some} == {"meld"}
    assert {r["valid"] for _, part in some for r in part} == {"0"}
    expected = [r for g, part in everything if g["corpus"] == "meld" for r in part if r["valid"] == "0"]
    assert sum(len(part) for _, part in some) == len(expected)
    assert f"{len(expected)} rollouts of {len(some)} prompts</output>" in dom
    best = shown(dumped(run / "report.html", "#step=iter_1%2Frl%2F2&best=1&q=ZOË"))
    expected = [
        r for g, part in everything if g["step"] == "iter_1/rl/2" for r in part
        if r["best"] == "1" and "zoë" in r["text"].lower()
    ]  # fmt: skip
    assert sum(len(part) for _, part in best) == len(expected) > 0


def test_the_page_fits_a_phone(run, page, tmp_path):
    """In a frame of 390 pixels the page, all of it unfolded, is not wider than the frame."""
    measure = (
        "<script>addEventListener('load', () => setTimeout(() => {"
        "const page = document.querySelector('iframe').contentDocument.documentElement;"
        "page.querySelectorAll('details').forEach((details) => { details.open = true; });"
        "document.title = 'width ' + page.scrollWidth;}, 500))</script>"
    )
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "phone.html").write_text(f'<iframe src="report.html" width=390 height=800></iframe>{measure}')
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--allow-file-access-from-files",
            "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path}/phone.html",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (width,) = re.findall(r"<title>width (\d+)</title>", done.stdout)
    assert int(width) <= 390
