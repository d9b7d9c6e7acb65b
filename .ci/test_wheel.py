"""Build the wheel, install it into a fresh environment and run it from an empty folder elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUST_HOLD = (
    "tasker/py.typed",
    "tasker/_sql/functions/",
    "tasker/_sql/schema/",
    "tasker/_examples/",
    "tasker/_config/",
)
DEMO_SECONDS = 300


def build(folder: Path) -> Path:
    """The wheel, made by the backend already in this environment."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}", str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def missing(wheel: Path) -> list[str]:
    """The parts of MUST_HOLD that the wheel does not hold."""
    names = zipfile.ZipFile(wheel).namelist()
    return [part for part in MUST_HOLD if not any(name.startswith(part) for name in names)]


def install(wheel: Path, environment: Path) -> Path:
    """The folder of commands of a new environment that holds the wheel and nothing of the checkout."""
    venv.create(environment, with_pip=True)
    commands = environment / "bin"
    constraints = ROOT / "constraints.txt"
    subprocess.run(
        [commands / "python", "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[embedded]"],
        check=True,
    )
    return commands


def outside() -> dict[str, str]:
    """This process's environment without what would lead back to the checkout or to a configured server."""
    ours = ("PYTHON", "TASKER_", "VIRTUAL_ENV", "DATABASE_URL", "CELERY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def main() -> None:
    """Fail on the first thing a stranger with only the wheel would miss."""
    with tempfile.TemporaryDirectory(prefix="tasker-wheel-") as folder:
        wheel = build(Path(folder, "dist"))
        if absent := missing(wheel):
            sys.exit(f"{wheel.name} lacks {', '.join(absent)}: see `sources` in pyproject.toml")
        commands = install(wheel, Path(folder, "venv"))
        empty = Path(folder, "empty")
        empty.mkdir()
        for arguments in (["--help"], ["demo"]):
            print(f"== tasker {' '.join(arguments)}", flush=True)
            command = [str(commands / "tasker"), *arguments]
            subprocess.run(command, check=True, cwd=empty, env=outside(), timeout=DEMO_SECONDS)
    print(f"== {wheel.name} works on its own")


if __name__ == "__main__":
    main()
