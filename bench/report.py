"""The figures as a table on standard output and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.figures import Taken

OWN = "Tasker"
CANVAS = ("canvas", "canvas with results")
"""A ratio is to the first of these that has the figure."""


def reference(taken: Taken) -> str | None:
    """The side to which the ratios of a figure are taken; None without a canvas."""
    return next((name for name in CANVAS if name in taken.values), None)


def print_table(found: Sequence[Taken]) -> None:
    """A block for each figure: medians, with the least and the greatest of the rounds, and ratios."""
    print(
        "medians (least to greatest of the rounds); how many times better than Celery's canvas; and how many"
    )
    print("times better Tasker is than this side\n")
    for taken in found:
        print(f"{taken.figure.name}, {taken.figure.kind.value}")
        canvas = reference(taken)
        for name, values in taken.values.items():
            spread = f"({shown(min(values))} to {shown(max(values))})"
            to_canvas = _ratio(taken, name, canvas)
            own = _ratio(taken, OWN, name)
            line = f"  {name:<20} {shown(statistics.median(values)):>9}  {spread:<20} {to_canvas:<26} {own}"
            print(line.rstrip())
        for name, reason in taken.missing.items():
            print(f"  {name:<20}         -  {reason}")
        print()


def _ratio(taken: Taken, side: str, to: str | None) -> str:
    if to is None or side == to or side not in taken.values:
        return ""
    ratios = taken.ratios(side, to)
    return f"{shown(statistics.median(ratios))} x ({shown(min(ratios))} to {shown(max(ratios))})"


def as_json(found: Sequence[Taken]) -> list[dict[str, Any]]:
    """The figures, with every round."""
    return [
        {
            "figure": taken.figure.name,
            "shape": taken.figure.shape.name,
            "kind": taken.figure.kind.name.lower(),
            "unit": taken.figure.kind.value,
            "lower_is_better": taken.figure.kind.lower_is_better,
            "tasks": taken.figure.tasks,
            "reference": (canvas := reference(taken)),
            "sides": {
                name: {
                    "median": statistics.median(values),
                    "least": min(values),
                    "greatest": max(values),
                    "rounds": values,
                    "to_canvas": _ratios(taken, name, canvas),
                    "tasker_to_it": _ratios(taken, OWN, name),
                }
                for name, values in taken.values.items()
            },
            "missing": taken.missing,
        }
        for taken in found
    ]


def _ratios(taken: Taken, side: str, to: str | None) -> list[float] | None:
    return None if to is None or side not in taken.values else taken.ratios(side, to)


def machine() -> dict[str, Any]:
    """What a figure depends on beside the code."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "load": os.getloadavg()[0],
    }


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def shown(value: float) -> str:
    """Three digits, and no more than a reader wants."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"
