"""Tables of results on the terminal."""

from __future__ import annotations

from typing import Any


def print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table; all columns but the first are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(columns):
        options: dict[str, Any] = {"justify": "right"} if index else {}
        table.add_column(title, no_wrap=True, **options)
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # files and pipes have no width
        console.width = 1000
    console.print(table)
