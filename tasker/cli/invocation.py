"""What the words before a command said, and what commands make of it: settings, database, client, app."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from tasker.cli.commands import program_and_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tasker.db.engine import Database
    from tasker.orchestration.client import Tasker
    from tasker.settings import Read, Settings


class Invocation:
    """One run of the program. `celery` is the app that `celery -A MODULE tasker` has loaded already."""

    def __init__(self, module: str | None, config: Path | None, celery: Any = None) -> None:
        self.config = config
        self._module = module
        self._celery = celery
        self._flags: dict[str, Any] = {"app": module}

    def set_flags(self, **flags: Any) -> None:
        """Settings that options of the command give; None means not given. Call it before `settings`."""
        self._flags.update(flags)

    @cached_property
    def read(self) -> Read:
        """The settings of this run, and where each is from. Raises SettingsError."""
        from tasker.settings import read_settings

        return read_settings(self.config, **self._flags)

    @property
    def settings(self) -> Settings:
        """The settings of this run. Raises SettingsError."""
        return self.read.settings

    @cached_property
    def database(self) -> Database:
        """The database, for commands that only read it. Raises SettingsError when none is named."""
        from tasker.db.engine import Database

        limit = self.settings.statement_timeout_seconds
        url = self.settings.require_database_url()
        return Database(url, connections=1, name="tasker cli", statement_timeout_seconds=limit)

    @cached_property
    def client(self) -> Tasker:
        """What submits, waits and moves.

        Its messages go through the broker of the settings; through the application's where `-A` says so, or
        where the settings name none.
        """
        from tasker.orchestration.client import Tasker

        self.settings.require_database_url()
        self.log_to_people()
        return Tasker(self.settings, celery=self.app if self.names_an_application else None)

    @property
    def names_an_application(self) -> bool:
        """Whether messages go through the application's broker: `-A` says so, or nothing else names one."""
        return bool(self._module or self._celery or (self.settings.app and not self.settings.broker_url))

    @cached_property
    def app(self) -> Any:
        """The Celery app of `-A MODULE`, whose templates and handlers are now registered.

        Raises UsageError when no module was named.
        """
        from tasker import broker
        from tasker.worker.application import load

        if self._celery is not None:
            app = broker.connected(self._celery, self.settings)
            broker.attach(app, self.settings)
            return app
        return load(self._module_named(), self.settings)

    def load_module(self) -> None:
        """Import the module of `-A` for its templates and handlers alone; needs neither database nor broker.

        Raises UsageError when no module was named, and what importing it raises.
        """
        from tasker.worker.application import import_application

        if self._celery is None:
            import_application(self._module_named(), self.settings)

    def _module_named(self) -> str:
        if self.settings.app:
            return self.settings.app
        whole, own = program_and_command(click.get_current_context())
        raise click.UsageError(
            f"{own} needs the module with your templates and handlers: {whole} -A MODULE {own}"
            " (or set TASKER_APP)"
        )

    @property
    def has_app(self) -> bool:
        """Whether a module was named, by `-A`, TASKER_APP or the settings file."""
        return self._celery is not None or bool(self.settings.app)

    def log_to_people(self) -> None:
        """Log warnings and worse as text on standard error: the manner of commands that end by themselves."""
        from tasker.observability.logs import configure_logs
        from tasker.settings import redaction

        level = "DEBUG" if self.settings.log_level == "DEBUG" else "WARNING"
        configure_logs(level, "console", redaction=redaction(self.settings))

    def log_as_process(self) -> Callable[[], None]:
        """What configures the logs of a worker or a coordinator, by the settings."""
        from functools import partial

        from tasker.observability.logs import configure_logs
        from tasker.settings import redaction

        return partial(
            configure_logs,
            self.settings.log_level,
            self.settings.log_format,
            redaction=redaction(self.settings),
        )
