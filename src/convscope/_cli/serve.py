"""``convscope serve``."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from convscope._cli import options as opt
from convscope._cli.options import ImageFiles
from convscope._errors import UsageError

_Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="The network; by default $CONVSCOPE_MODEL, that of the atlas where its name "
        "is enough to load it (demo, torchvision:, timm:, keras:), or demo. Twice, "
        "-m A -m B: a second one to compare it with.",
    ),
]


def serve(
    atlas: opt.OptionalAtlas = None,
    models: _Models = None,
    image: ImageFiles = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="May be scanned from the app, into ATLAS where that is not there yet.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A name that a reverse proxy calls it by. Repeatable."),
    ] = None,
    memory: Annotated[
        int, typer.Option(min=16, metavar="MB", help="Of activations that are kept.")
    ] = 512,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
) -> None:
    """The microscope in the browser, on 127.0.0.1: layers, channels, positions, on your pictures.

    Ctrl-C ends it.
    """
    from convscope._app import serve as run
    from convscope._app.server import model_of, opened

    known = opened(atlas, data)
    usual = os.environ.get("CONVSCOPE_MODEL")
    names = list(models or ([usual] if usual else ()))
    if len(names) > 2:
        raise UsageError(f"{len(names)} networks were named; the app compares two: -m A -m B")
    if not names:
        own = "demo" if known is None else model_of(known)
        names = [own] if own else []
    if not names:
        opt.note("this atlas does not name a network that can be loaded; give it with -m MODEL")
    run(
        atlas=atlas if known is None else known,
        images=image or (),
        data=data,
        port=port,
        open=open,
        allow=allow or (),
        memory=memory << 20,
        on_ready=_say,
        opening=[
            partial(
                opt.load_model, name, weights if first else None, preprocess, classes, input_shape
            )
            for first, name in zip((True, False), names, strict=False)
        ],
    )


def _say(address: str) -> None:
    typer.echo(f"The microscope is at {address}  (Ctrl-C ends it)")
