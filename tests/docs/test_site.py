"""The pages as a site: built without a warning, whole, and without a request to the network."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

from support.campaigns import REPOSITORY

FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Attributes of elements that a browser follows by itself."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does: a warning (a link to nowhere, a page that nobody reaches) ends it."""
    missing = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: `make docs` installs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-d", folder / "doctrees"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    # No proxy answers there: what asks the network fails.
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [*command, ".", folder / "html"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Page(HTMLParser):
    """What a page links to, what it fetches, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in FETCHED and FETCHED[tag] in given and given.get("rel") not in ("canonical", "index", "search"):
            self.fetched.append(given[FETCHED[tag]])


def is_elsewhere(target: str) -> bool:
    return target.startswith(("http:", "https:", "//", "mailto:"))


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_document_is_a_page(site):
    written = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "docs").rglob("*.md")}
    assert written and [path for path in written if not (site / path).with_suffix(".html").exists()] == []


def test_no_page_asks_the_network(site, pages):
    for path, page in pages.items():
        assert [target for target in page.fetched if is_elsewhere(target)] == [], path
    for sheet in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = sheet.read_text().replace('"', "").replace("'", "")
        assert "url(http" not in text and "url(//" not in text and "@import" not in text, sheet


def test_every_link_and_picture_is_there(pages):
    for path, page in pages.items():
        for target in [*page.links, *page.fetched]:
            if is_elsewhere(target):
                continue
            name, _, anchor = unquote(target).partition("#")
            file = path.parent / name.partition("?")[0] if name else path
            assert file.exists(), f"{path}: {target}"
            if anchor and file.suffix == ".html":
                known = pages[file.resolve()] if file.resolve() in pages else Page(file)
                assert anchor in known.anchors, f"{path}: {target}"
