"""The site builds, and needs no network: neither to be built nor to be read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from launch.site import PAGES

ROOT = Path(__file__).resolve().parents[2]
MKDOCS = ROOT / ".venv-docs/bin/python"


@pytest.mark.skipif(
    not MKDOCS.is_file(), reason=".venv-docs is missing: python3 launch/setup_env.py --profile docs"
)
def test_the_site_builds_without_a_network_and_asks_nobody(tmp_path, subprocess_env):
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*_):\n"
        "    raise OSError('the site asks the network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
    )
    site = tmp_path / "site"
    done = subprocess.run(
        [MKDOCS, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT, env=subprocess_env(PYTHONPATH=str(tmp_path)), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(site.rglob("*.html"))
    documents = [*(ROOT / "docs").rglob("*.md"), *PAGES]
    assert len(pages) > len(documents)  # and the page for what is not found
    loaded = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(https?:[^"'\s>]+)""")
    elsewhere = {url for page in pages for url in loaded.findall(page.read_text(encoding="utf-8"))}
    assert elsewhere == set()
