"""Progress on stderr: one bar for every command that takes its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from convscope._optvis import Step


class Bar:
    """A bar with the time left, gone when done; nothing where stderr is no terminal.

    ``quiet`` also keeps back what is ``say``-ed.
    """

    def __init__(self, doing: str, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(doing, total=None, speed="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, of: int, doing: str, what: str = "") -> None:
        """So much is done; ``what`` it is, where it is worth saying how many a second."""
        speed = self._bar.tasks[0].speed if what else None
        text = f"{speed:,.0f} {what}/s" if speed else ""
        self._bar.update(self._task, completed=done, total=of, description=doing, speed=text)

    def restart(self) -> None:
        """Another stage begins: times are counted from now."""
        self._bar.reset(self._task, speed="")

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        self._bar.console.print(line, highlight=False)


def telling(
    bar: Bar, watch: Callable[[Step], object] = lambda step: None
) -> Callable[[Step], None]:
    """What shows each step of a climb on a bar, and to ``watch``."""

    def step(step: Step) -> None:
        watch(step)
        first, *others = step.units
        bar.show(step.done, step.of, f"{first} and {len(others)} more" if others else first)

    return step
