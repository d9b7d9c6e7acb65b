"""The endless steps in an application that handles SIGALRM itself and has a task with a soft time limit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from tasker import Tasker
from tests.acceptance.apps import endless

app = Celery("alarmed", broker=os.environ["TASKER_BROKER_URL"])
tasks = Tasker(celery=app)

signal.signal(signal.SIGALRM, lambda *_: None)


@app.task(soft_time_limit=1)  # type: ignore[untyped-decorator]
def limited(word: str) -> None:
    """A Celery task as there are many in an application."""
    try:
        time.sleep(endless.LONG_SECONDS)
    except SoftTimeLimitExceeded:
        Path(os.environ["TASKER_TEST_FOLDER"], word).touch()
