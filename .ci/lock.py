"""Resolve everything Tasker and its tests need, afresh, and write the versions to constraints.txt."""

from __future__ import annotations

import json
import subprocess
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The exact versions Tasker is tested with. Written by `make lock`; not edited by hand.
"""


def resolve(python: Path) -> dict[str, str]:
    """Names and versions pip would install into an empty environment, nothing of which is installed."""
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    options = ["--dry-run", "--ignore-installed", "--report=-", "--editable", f"{ROOT}[embedded,test]"]
    report = subprocess.run([*pip, *options], check=True, stdout=subprocess.PIPE).stdout
    found = (
        item["metadata"] for item in json.loads(report)["install"] if "dir_info" not in item["download_info"]
    )
    return {metadata["name"]: metadata["version"] for metadata in found}


def main() -> None:
    """Write the file; nothing of the current environment has a say in it."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        versions = resolve(Path(folder, "bin", "python"))
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items(), key=lambda i: i[0].lower())]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines))
    print(f"constraints.txt: {len(lines)} versions")


if __name__ == "__main__":
    main()
