"""The site that `make docs` builds: it loads nothing from elsewhere, and has every page."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.test_documented import DOCS, TOP, code_blocks

TRANSLATED = sorted(TOP.glob("README.*.md"))
# What a browser fetches by itself for a page, by element and attribute.
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Loads(HTMLParser):
    """Collects what a page has a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == LOADED.get(tag) and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it with a proxy that does not exist: nothing may be fetched meanwhile either."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=TOP,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        timeout=60,
        check=True,
    )
    return folder


class TestTheSite:
    def test_has_every_page(self, site: Path) -> None:
        pages = {f"{path.stem}.html" for path in DOCS.glob("*.md")}
        assert pages <= {path.name for path in site.glob("*.html")}
        records = {f"{path.stem}.html" for path in DOCS.glob("decisions/0*.md")}
        assert records <= {path.name for path in site.glob("decisions/*.html")}

    def test_loads_nothing_from_elsewhere(self, site: Path) -> None:
        pages = list(site.rglob("*.html"))
        loaded = {link for page in pages for link in Loads(page.read_text("utf-8")).found}
        assert any(link.endswith(".js") for link in loaded)
        assert [link for link in loaded if re.match(r"(?:[a-z]+:)?//", link)] == []
        styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]*", styles) == []

    def test_loads_only_what_is_there(self, site: Path) -> None:
        for page in site.rglob("*.html"):
            base = site if page.name == "404.html" else page.parent
            for link in Loads(page.read_text("utf-8")).found:
                path = link.partition("?")[0].partition("#")[0].removeprefix("/")
                assert (base / path).exists(), (page, link)


class TestTranslations:
    def test_are_those_that_the_readme_links_to(self) -> None:
        readme = (TOP / "README.md").read_text("utf-8")
        assert {path.name for path in TRANSLATED} == set(re.findall(r"README\.\w+\.md", readme))

    @pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: path.name)
    def test_has_the_commands_of_the_readme(self, path: Path) -> None:
        readme = (TOP / "README.md").read_text("utf-8")
        lines = commands(path)
        assert len(lines) == 6
        assert [line for line in lines if line not in readme] == []

    def test_all_say_the_same(self) -> None:
        assert len({tuple(commands(path)) for path in TRANSLATED}) == 1
        assert len({tuple(links(path)) for path in TRANSLATED}) == 1


def commands(path: Path) -> list[str]:
    return "".join(code_blocks(path.read_text("utf-8"), "")).splitlines()


def links(path: Path) -> list[str]:
    found = re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8"))
    return sorted(link for link in found if not link.startswith("README."))
