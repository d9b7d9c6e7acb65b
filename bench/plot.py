"""The figures as bars, one field for each, readable on light and dark ground."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.report import shown

COLUMNS = 2
MOST_APART = 50
"""Beyond that the shorter bars would not be seen on an even scale."""
OWN, OTHER = "#2f81f7", "#8b949e"
INK = "#24292f"
ON_DARK = "#e6edf3"
STYLE = f"<style>@media (prefers-color-scheme: dark) {{ text {{ fill: {ON_DARK} !important }} }}</style>"
"""The ground is left to the page; on a dark one the words turn bright, as the bars need not."""


def draw(written: Mapping[str, Any], path: Path) -> Path:
    """Write the plot of what was written as JSON; returns its path."""
    figures = [figure for figure in written["figures"] if figure["sides"]]
    rows = -(-len(figures) // COLUMNS)
    heights = 0.9 + 0.28 * max(len(figure["sides"]) for figure in figures)
    settings = {"svg.fonttype": "none", "font.size": 9, "text.color": INK, "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        drawn, fields = plt.subplots(rows, COLUMNS, figsize=(11, rows * heights), squeeze=False)
        for field, figure in zip(fields.flat, figures, strict=False):
            _bars(field, figure)
        for field in fields.flat[len(figures) :]:
            field.set_axis_off()
        drawn.tight_layout(w_pad=3, h_pad=2)
        drawn.savefig(path, transparent=True)
        plt.close(drawn)
    text = path.read_text()
    at = text.index("<defs>")
    path.write_text(f"{text[:at]}{STYLE}\n {text[at:]}")
    return path


def _bars(field: Axes, figure: Mapping[str, Any]) -> None:
    names = list(figure["sides"])
    medians = [figure["sides"][name]["median"] for name in names]
    spread = [
        [side["median"] - side["least"] for side in figure["sides"].values()],
        [side["greatest"] - side["median"] for side in figure["sides"].values()],
    ]
    colours = [OWN if name == "Tasker" else OTHER for name in names]
    wide = max(medians) > MOST_APART * min(medians)
    field.barh(names, medians, xerr=spread, color=colours, ecolor="#6e7781", height=0.7, log=wide)
    for row, side in enumerate(figure["sides"].values()):
        field.annotate(
            f"  {shown(side['median'])}", (side["greatest"], row), va="center", color=INK, fontsize=8
        )
    better = "less is better" if figure["lower_is_better"] else "more is better"
    scale = ", logarithmic" if wide else ""
    title = f"{figure['figure']}: {figure['unit']}, {better}{scale}"
    field.set_title(title, loc="left", fontsize=10, color=INK)
    field.invert_yaxis()
    field.margins(x=0.15)
    field.tick_params(length=0, labelcolor=INK)
    field.get_xaxis().set_visible(False)
    for edge in field.spines.values():
        edge.set_visible(False)
