"""``convscope demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")
    ] = Path("convscope-demo"),
) -> None:
    """Everything on the built-in network, offline, into ./convscope-demo/."""
    from convscope._demo import run

    for step in run(output):
        typer.echo(step)
