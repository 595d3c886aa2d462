"""Draws the rates in bench/results as bars into docs/benchmarks.svg.

A bar is the median of the runs, the thin line goes from the least to the most. Each group has a
scale of its own: a result file, or a peer and ours beside it. Light and dark follow the reader.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from bench.harness import RESULTS, Figure, say

TARGET = Path(__file__).parents[1] / "docs" / "benchmarks.svg"
ORDER = ("end_to_end", "peers", "drain", "listeners", "ceiling")
UNITS = ("orders/s", "records/s")
WIDTH, LABEL, BAR, ROW, HEAD = 860, 350, 400, 22, 40
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.name { text-anchor: end }
.head { font-weight: 600 }
.bar { fill: #4c78c8 }
.other { fill: #b3b9c4 }
.runs { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #d8dee6 }
  .other { fill: #69727f }
  .runs { stroke: #d8dee6 }
}
"""

Group = tuple[str, list[Figure]]


def run() -> list[Figure]:
    """Draw what there is."""
    groups = [group for name in ORDER for group in _groups(name)]
    TARGET.write_text(svg(groups), "utf-8")
    say(f"plot: {sum(len(bars) for _, bars in groups)} bars in docs/{TARGET.name}")
    return []


def _groups(name: str) -> Iterator[Group]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        say(f"plot: bench/results/{path.name} is not there")
        return
    document = json.loads(path.read_text("utf-8"))
    figures = [Figure(**figure) for figure in document["figures"]]
    for unit in UNITS:
        bars = [figure for figure in figures if figure.unit == unit]
        if name == "peers":  # A slow peer would have no bar at all on the scale of a fast one.
            for ours, theirs in zip(bars[::2], bars[1::2], strict=True):
                yield f"{theirs.name} beside orderstream, {unit}", [ours, theirs]
        elif bars:
            yield f"{name.replace('_', ' ')}, {unit}", bars


def svg(groups: list[Group]) -> str:
    """Return the drawing of groups of bars, under their titles."""
    parts: list[str] = []
    y = 0
    for title, bars in groups:
        y += HEAD
        parts.append(f'<text class="head" x="8" y="{y - 10}">{escape(title)}</text>')
        scale = BAR / max(max(bar.runs) for bar in bars)
        for bar in bars:
            least, middle, most = bar.spread()
            kind = "other" if title.startswith(bar.name) else "bar"
            level = y + ROW // 2
            parts += (
                f'<text class="name" x="{LABEL - 8}" y="{level + 4}">{escape(bar.name)}</text>',
                f'<rect class="{kind}" x="{LABEL}" y="{y + 3}" height="{ROW - 6}"'
                f' width="{max(middle * scale, 1):.1f}"/>',
                f'<line class="runs" x1="{LABEL + least * scale:.1f}" y1="{level}"'
                f' x2="{LABEL + most * scale:.1f}" y2="{level}"/>',
                f'<text x="{LABEL + most * scale + 8:.1f}" y="{level + 4}">{middle:,.0f}</text>',
            )
            y += ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 12}" role="img"'
        f' aria-label="Rates measured">\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )
