"""Resolve everything afresh, and write the versions to constraints.txt and bench/constraints.txt."""

from __future__ import annotations

import json
import subprocess
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / "constraints.txt"
PEERS = ROOT / "bench" / "constraints.txt"
HEADERS = {
    OWN: "# The exact versions Tasker is tested with.",
    PEERS: "# The exact versions of what `make bench` needs beside those of constraints.txt.",
}


def resolve(python: Path, extras: str, *options: str) -> dict[str, str]:
    """Names and versions pip would install into an empty environment, nothing of which is installed."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report=-"]
    command = [*pip, *options, "--editable", f"{ROOT}[{extras}]"]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found = (
        item["metadata"] for item in json.loads(report)["install"] if "dir_info" not in item["download_info"]
    )
    return {metadata["name"]: metadata["version"] for metadata in found}


def write(path: Path, versions: dict[str, str]) -> None:
    """One line for each, by name."""
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items(), key=lambda i: i[0].lower())]
    path.write_text(f"{HEADERS[path]} Written by `make lock`; not edited by hand.\n" + "".join(lines))
    print(f"{path.relative_to(ROOT)}: {len(lines)} versions")


def main() -> None:
    """Write both files; nothing of the current environments has a say in it."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        own = resolve(python, "embedded,test")
        write(OWN, own)
        peers = resolve(python, "embedded,bench", f"--constraint={OWN}")
        write(PEERS, {name: version for name, version in peers.items() if name not in own})


if __name__ == "__main__":
    main()
