"""The progress bar on stderr that every long command shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from convscope._optvis import OptimizationStep


class ProgressBar:
    """A spinner with the name of the current step, and a bar with the time left where it is known.

    It disappears when done, and shows nothing where stderr is not a terminal.

    Args:
        description: The first step.
        quiet: Also suppress what is printed above the bar.
    """

    def __init__(self, description: str = "loading", *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(description, total=None, speed="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def describe(self, step: str) -> None:
        """Name the current step."""
        self._bar.update(self._task, description=step.replace("_", " "))

    def update(self, done: int, total: int, step: str = "", unit: str = "") -> None:
        """Move the bar; with a ``unit`` (``"images"``), also show how many a second."""
        if step:
            self.describe(step)
        speed = self._bar.tasks[0].speed if unit else None
        text = f"{speed:,.0f} {unit}/s" if speed else ""
        self._bar.update(self._task, completed=done, total=total, speed=text)

    def restart(self) -> None:
        """Begin another stage: speed and time left are measured from now."""
        self._bar.reset(self._task, speed="")

    def print(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        self._bar.console.print(line, highlight=False)


def optimization_progress(
    bar: ProgressBar, also: Callable[[OptimizationStep], object] = lambda step: None
) -> Callable[[OptimizationStep], None]:
    """A callback that shows each optimization step on a bar, and passes it on to ``also``."""

    def on_step(step: OptimizationStep) -> None:
        also(step)
        first, *others = step.names
        bar.update(step.done, step.total, f"{first} and {len(others)} more" if others else first)

    return on_step
