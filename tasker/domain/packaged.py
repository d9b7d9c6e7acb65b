"""Where the files live that are not Python: in the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

IN_WHEEL = {"sql": "_sql", "workers": "_examples", "config": "_config"}
PACKAGE = Path(__file__).resolve().parents[1]


def packaged_folder(name: str) -> Path:
    """The folder `sql`, `workers` or `config`. Raises FileNotFoundError when the installation lacks it."""
    places = (PACKAGE / IN_WHEEL[name], PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"no folder {name!r} at {' or '.join(map(str, places))}; install tasker-engine anew"
    )


def installed_version() -> str:
    """The version of this package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tasker-engine")
    except PackageNotFoundError:  # imported from a checkout nobody installed
        return "0+checkout"
