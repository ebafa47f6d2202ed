"""Tables of results on the terminal."""

from __future__ import annotations

from typing import Any


def print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        options: dict[str, Any] = {"justify": "right"} if place else {}
        table.add_column(head, no_wrap=True, **options)
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # a file or a pipe has no edge to cut at
        console.width = 1000
    console.print(table)
