"""One frozen settings model: flag > `TASKER_*` > file > what `tasker dev` left > default."""

from __future__ import annotations

import fcntl
import json
import os
import re
from difflib import get_close_matches
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import yaml
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasker.domain.error_data import LEAST_BYTES
from tasker.domain.errors import SettingsError
from tasker.domain.redaction import Redaction, passwords

DEFAULT_FILE = Path("config/tasker.yaml")
PREFIX = "TASKER_"
OTHER_VARIABLES = ("TASKER_CONFIG", "TASKER_DEBUG", "TASKER_FAULTS")
"""Read from the environment, but no settings: how to read settings, how to print errors, what tests break."""


class Settings(BaseSettings):
    """Everything that can be set, with its default; units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TASKER_DATABASE_URL", "DATABASE_URL"),
        description="PostgreSQL, as a libpq URL. Without it, the system `tasker dev` runs.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TASKER_BROKER_URL", "CELERY_BROKER_URL"),
        description="Redis or RabbitMQ, as a Celery URL. Without it, the app's, else that of `tasker dev`.",
    )
    app: str | None = Field(default=None, description="Module with templates and handlers, like `-A`.")
    data_dir: Path = Field(
        default=Path(".tasker"), description="Where the embedded PostgreSQL and Redis keep data."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least level that workers and coordinators log."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto",
        description="How they log: auto is console on a terminal, else JSON, one object a line.",
    )

    batch_budget_ms: float = Field(
        default=50, gt=0, description="Expected work that one message, or one kept batch, may hold."
    )
    batch_max_steps: int = Field(default=64, ge=1, le=1000, description="Steps in one message at most.")
    continuation_ms: float = Field(
        default=250,
        ge=0,
        description="How long a worker goes on with what it kept before it takes a new message.",
    )
    flush_after_ms: float = Field(
        default=50, gt=0, description="Age at which a finished outcome is recorded while a handler runs."
    )
    release_after_ms: float = Field(
        default=500, gt=0, description="Age of a claim at which its unbegun steps are given back."
    )

    statement_timeout_seconds: float = Field(
        default=30,
        gt=0,
        description="Limit of one call to PostgreSQL; raise it if one `submit_many` makes a million steps.",
    )

    timeout_grace_seconds: float = Field(
        default=3,
        ge=0,
        description="From StepTimeout or StepCancelled in a handler until its attempt is ended for good.",
    )
    cancel_grace_seconds: float = Field(
        default=10,
        ge=0,
        description="From the end of an attempt by somebody else until StepCancelled in its handler.",
    )

    heartbeat_seconds: float = Field(default=3, gt=0, description="Between two beats of a worker.")
    silence_seconds: float = Field(
        default=12, gt=0, description="Observed silence after which a worker is taken for dead."
    )
    child_poll_seconds: float = Field(
        default=0.5, gt=0, description="Between two looks of a worker at its child processes."
    )
    coordinator_seconds: float = Field(
        default=0.5, gt=0, description="Between two passes over due and held steps."
    )
    recovery_seconds: float = Field(
        default=1, gt=0, description="Between two passes over lost workers and lost messages."
    )
    lost_message_seconds: float = Field(
        default=5,
        gt=0,
        description="How far newer messages must be ahead before an older one counts as lost.",
    )
    max_losses: int = Field(
        default=3, ge=1, description="Workers one step may kill, alone in its claim, before it ends in error."
    )
    coordinator_batch: int = Field(default=1000, ge=1, description="Steps moved by one pass at most.")

    context_max_bytes: int = Field(default=1 << 20, gt=0, description="Size limit of a task's context.")
    result_max_bytes: int = Field(default=1 << 20, gt=0, description="Size limit of a step's result.")
    value_max_depth: int = Field(default=64, gt=0, le=500, description="Nesting limit of both.")
    error_max_bytes: int = Field(
        default=16 << 10, ge=LEAST_BYTES, description="Size limit of a recorded error, traceback included."
    )
    template_max_bytes: int = Field(default=1 << 20, gt=0, description="Size limit of a template file.")
    template_max_steps: int = Field(
        default=10_000, gt=0, le=100_000, description="Steps of one template at most."
    )

    def require_database_url(self) -> str:
        """The database to use. Raises SettingsError when it is another kind, and how to name one for none."""
        if self.database_url is not None:
            return _server_url("database_url", self.database_url)
        raise SettingsError(
            "no database: set TASKER_DATABASE_URL (or DATABASE_URL), or run `tasker dev` in this folder "
            f"(no running system was found in {self.data_dir})"
        )

    def require_broker_url(self) -> str:
        """The broker to use. Raises SettingsError when it is another kind, and how to name one for none."""
        if self.broker_url is not None:
            return _server_url("broker_url", self.broker_url)
        raise SettingsError(
            "no broker: set TASKER_BROKER_URL (or CELERY_BROKER_URL), pass your Celery app, or run "
            "`tasker dev` in this folder"
        )


@lru_cache(maxsize=16)
def redaction(settings: Settings) -> Redaction:
    """What hides the passwords of these settings' servers, and what looks like a secret."""
    urls = (settings.database_url, settings.broker_url)
    return Redaction(
        chain.from_iterable(passwords(url.get_secret_value()) for url in urls if url is not None)
    )


class Read(NamedTuple):
    """Settings, and where each is from: `flag`, a variable, a file's path, `tasker dev` or `default`."""

    settings: Settings
    origins: dict[str, str]


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings: `flags` (None means not given) beat the environment, that beats the file.

    The file is `config`, else TASKER_CONFIG, else ./config/tasker.yaml if it exists. Servers that nothing
    names are those of a running `tasker dev` of the data folder. Raises SettingsError, listing every problem.
    """
    return read_settings(config, **flags).settings


def read_settings(config: Path | None = None, **flags: Any) -> Read:
    """What `load_settings` reads, with each setting's origin. Raises as it does."""
    given = {key: value for key, value in flags.items() if value is not None}
    path = _config_path(config)
    from_file = {
        key: value
        for key, value in (_read_yaml(path) if path else {}).items()
        if key not in given and not os.environ.get(variable(key))
    }
    try:
        settings = Settings(**from_file, **given)
    except ValidationError as error:
        raise SettingsError("\n".join(_problems(error, path))) from None
    origins = {
        key: "flag" if key in given else str(path) if key in from_file else _variable_set(key) or "default"
        for key in Settings.model_fields
    }
    found = _dev_system(settings.data_dir)
    if found and settings.database_url in {None, SecretStr(found["database_url"])}:
        unnamed = [key for key in _SERVERS if getattr(settings, key) is None]
        settings = settings.model_copy(update={key: SecretStr(found[key]) for key in unnamed})
        origins.update(dict.fromkeys(unnamed, "tasker dev"))
    return Read(settings, origins)


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{setting.upper()}"


def variables(setting: str) -> tuple[str, ...]:
    """Every environment variable a setting is read from, the decisive one first."""
    alias = Settings.model_fields[setting].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [variable(setting)]
    return tuple(str(choice) for choice in choices)


def unknown_variables() -> list[str]:
    """One line for each TASKER_* variable of the environment that nothing reads: most are misspelt."""
    known = [*map(variable, Settings.model_fields), *OTHER_VARIABLES]
    lines = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_") and name not in known:
            near = get_close_matches(name, known, 1)
            lines.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


def server_problems(settings: Settings) -> list[str]:
    """One line for each server whose URL is of a kind that cannot be used."""
    problems = []
    for setting in _SERVERS:
        url = getattr(settings, setting)
        try:
            if url is not None:
                _server_url(setting, url)
        except SettingsError as error:
            problems.append(str(error))
    return problems


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+[A-Za-z0-9]+)?://")
_SERVERS = ("database_url", "broker_url")
_BROKERS = frozenset(
    {
        *("amqp", "amqps", "azureservicebus", "azurestoragequeues", "confluentkafka", "consul", "etcd"),
        *(
            "filesystem",
            "gcpubsub",
            "kafka",
            "librabbitmq",
            "memory",
            "mongodb",
            "pgmq",
            "pyamqp",
            "pyro",
            "qpid",
        ),
        *("redis", "rediss", "sentinel", "slmq", "sqla", "sqlalchemy", "sqs", "zookeeper"),
    }
)
"""All that Celery knows: what is ours of them is a pipe."""
_SCHEMES = {
    "database_url": frozenset({"postgresql", "postgres"}),
    "broker_url": _BROKERS,
}
_EXAMPLES = {
    "database_url": "PostgreSQL, as in postgresql://user:password@host/name",
    "broker_url": "Redis or RabbitMQ, as in redis://host:6379/0",
}


def _server_url(setting: str, url: SecretStr) -> str:
    """The URL of a server, if it is of a kind that can be used. Its secrets stay out of what is raised."""
    text = url.get_secret_value()
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() not in _SCHEMES[setting]:
        given = f"begins with {scheme[0]}" if scheme else "is no URL"
        raise SettingsError(f"{_variable_set(setting) or setting} {given}: it takes {_EXAMPLES[setting]}")
    return text


def _variable_set(setting: str) -> str | None:
    return next((name for name in variables(setting) if os.environ.get(name)), None)


def _config_path(config: Path | None) -> Path | None:
    variable_named = os.environ.get("TASKER_CONFIG")
    named = config or (Path(variable_named) if variable_named else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    if not named.is_file():
        raise SettingsError(f"{named}: no such settings file (from --config or TASKER_CONFIG)")
    return named


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"{path}: expected `setting: value` lines")
    return values


def _problems(error: ValidationError, path: Path | None) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] != "extra_forbidden":
            lines.append(f"setting {name}: {problem['msg']}")
            continue
        near = get_close_matches(name, Settings.model_fields, 1)
        hint = f"; did you mean {near[0]}?" if near else "; see `tasker config show` for all settings"
        lines.append(f"{path or 'settings'}: unknown setting {name}{hint}")
    return lines


def _dev_system(data_dir: Path) -> dict[str, str] | None:
    """What a running `tasker dev` tells other terminals. One that was killed leaves the file, unlocked."""
    try:
        with (data_dir / "dev.json").open() as file:
            if _is_free(file):
                return None
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and all(key in found for key in _SERVERS) else None


def _is_free(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
