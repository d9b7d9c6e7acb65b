"""A new part of an application, which only newer workers have."""

from __future__ import annotations

from tasker import TaskTemplate

news = TaskTemplate("late/news", version="1.0.0")


@news.step
def first() -> str:
    return "first"


@news.step
def second(first: str) -> str:
    return f"{first}, second"
