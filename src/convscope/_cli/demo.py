"""``convscope demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")
    ] = Path("convscope-demo"),
) -> None:
    """Write an illustrated tour of the built-in network, offline."""
    from convscope._demo import run

    for step in run(output):
        typer.echo(step)
