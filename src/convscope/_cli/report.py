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
        typer.Option("--output", "-o", metavar="FILE", help="The page; else ATLAS.findings.html."),
    ] = None,
    as_json: opt.Json = False,
    show: opt.Show = False,
) -> None:
    """Which channels are dead, redundant, selective? One HTML page that needs nothing else.

    Reads the atlas alone: no model is run.
    """
    from convscope._reports import report as run

    target = output or Path(f"{atlas.resolve().name}.findings.html")
    if target.suffix.lower() not in (".html", ".htm"):
        page = target.with_suffix(".html")
        raise UsageError(f"A report is a page, and {str(target)!r} is none. Try {str(page)!r}")
    made = run(atlas)
    if as_json:
        print(json.dumps(made.to_dict(), indent=1, ensure_ascii=False))
        if output is None:
            return
    path = made.save(target)
    if as_json:
        return
    for sentence in made.sentences():
        typer.echo(sentence)
    typer.echo(path)
    if show:
        typer.launch(str(path))
