"""Makes the repository's own pages the site's: README, docs, and what these link to.

Each keeps its path in the repository, so that a link is the same here and there; `docs/` alone is
left out of addresses. What MkDocs calls at which moment: mkdocs.org/dev-guide/plugins.
"""

import re
from collections.abc import Iterable
from os.path import normpath
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

TOP = Path(__file__).parents[1]
# Of `[text](path#anchor)`, pictures too, the path; none of an address and of an anchor alone.
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
# A list that follows a paragraph at once: one on GitHub, a part of the paragraph for MkDocs.
CLOSE_LIST = re.compile(r"^([^\s#>|*+-].*)\n(?=(?:[*+-]|1\.) )", re.MULTILINE)
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
REST = "Operations"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation: what is there, the decisions, and pages that nobody has placed."""
    sections: list[dict[str, Any]] = [
        section for section in map(_that_exist, config.nav or []) if section
    ]
    rest = sorted({*_pages("docs/*.md")} - {*_named(sections)})
    for section in sections:
        if "Decisions" in section:
            section["Decisions"] = _pages("docs/decisions/*.md")
        if REST in section:
            section[REST] += rest
    config.nav = sections
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the repository's pages in the place of those of the folder docs."""
    found = Files(file for file in files if file.src_dir != config.docs_dir)
    pages = [*_pages("*.md"), *_pages("docs/**/*.md"), *_named(config.nav)]
    for path in sorted(_linked([*pages, *_pages("docs/assets/*")])):
        found.append(
            File(
                path,
                str(TOP),
                config.site_dir,
                config.use_directory_urls,
                dest_uri=_address(path),
                inclusion=InclusionLevel.INCLUDED,  # Also one whose name begins with a point.
            )
        )
    return found


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put a blank line between a paragraph and its list; what is fenced stays as it is."""
    parts = FENCED.split(markdown)
    parts[::2] = [CLOSE_LIST.sub(r"\1\n\n", text) for text in parts[::2]]
    return "".join(parts)


def _that_exist(entry: Any) -> Any:
    """Return an entry of the navigation without the pages that are not there; None if empty."""
    match entry:
        case str():
            return entry if (TOP / entry).exists() else None
        case dict():
            ((title, inside),) = entry.items()
            kept = _that_exist(inside)
            return None if kept is None else {title: kept}
        case _:
            return [kept for kept in map(_that_exist, entry) if kept is not None]


def _named(nav: Any) -> list[str]:
    """Return the paths in a navigation."""
    match nav:
        case str():
            return [nav]
        case dict():
            return [path for inside in nav.values() for path in _named(inside)]
        case _:
            return [path for entry in nav for path in _named(entry)]


def _pages(pattern: str) -> list[str]:
    """Return paths in the repository; of a folder, its README first."""
    found = sorted(TOP.glob(pattern), key=lambda path: (path.name != "README.md", path))
    return [path.relative_to(TOP).as_posix() for path in found]


def _linked(paths: Iterable[str]) -> set[str]:
    """Return these files and those that they link to, and so on."""
    found: set[str] = set()
    ahead = list(paths)
    while ahead:
        path = ahead.pop()
        if path in found:
            continue
        found.add(path)
        if path.endswith(".md"):
            page = TOP / path
            links = LINK.findall(CODE.sub("", page.read_text("utf-8")))
            # Not resolved: what is linked to by a symbolic link has that one's path.
            targets = [Path(normpath(page.parent / unquote(link))) for link in links]
            ahead += [
                target.relative_to(TOP).as_posix()
                for target in targets
                if target.is_file() and target.is_relative_to(TOP)
            ]
    return found


def _address(path: str) -> str:
    """Return where a file is on the site: a page as HTML, README as a folder's index."""
    place = PurePosixPath(path.removeprefix("docs/"))
    if place.suffix == ".md":
        name = "index" if place.name == "README.md" else place.stem
        place = place.with_name(f"{name}.html")
    return place.as_posix()
