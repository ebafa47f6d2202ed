"""``convscope report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._errors import UsageError


def report(
    atlas: opt.AtlasFolder,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="HTML file to write (default: ATLAS.health.html).",
        ),
    ] = None,
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """Report channel health: dead, duplicate, redundant and class-selective channels.

    Reads an atlas, runs no model, and writes one self-contained HTML page.
    """
    from convscope._reports import report as run

    path = output or Path(f"{atlas.resolve().name}.health.html")
    if path.suffix.lower() not in (".html", ".htm"):
        page = path.with_suffix(".html")
        raise UsageError(f"A report is an HTML page, not {str(path)!r}. Try {str(page)!r}")
    result = run(atlas)
    if as_json:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    if output is not None or not as_json:
        result.save(path)
    if as_json:
        return
    for sentence in result.sentences():
        typer.echo(sentence)
    typer.echo(path)
    if show:
        typer.launch(str(path))
