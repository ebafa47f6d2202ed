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
        help="Network (default: $CONVSCOPE_MODEL; else that of the atlas, if its name is enough "
        "to load it: demo, torchvision:, timm:, keras:; else demo). Give it twice to compare two "
        "networks: -m A -m B.",
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
            help="Dataset that may be scanned from the app, into ATLAS if that does not exist yet.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any that is free.")
    ] = 8765,
    open: Annotated[bool, typer.Option("--open", help="Open the app in the browser.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Host name that a reverse proxy uses. Repeatable."),
    ] = None,
    memory: Annotated[
        int, typer.Option(min=16, metavar="MB", help="Memory for cached activations, in MB.")
    ] = 512,
    weights: opt.Weights = None,
    preprocess: opt.Preprocessing = None,
    classes: opt.Classes = None,
    input_shape: opt.InputShape = None,
    unchecked: opt.Unchecked = False,
) -> None:
    """Serve the app on 127.0.0.1: walk through layers, channels and positions in the browser.

    Ctrl-C ends it.
    """
    from convscope._app.server import model_name, open_existing
    from convscope._app.server import serve as serve_app

    opened = open_existing(atlas, data)
    default = os.environ.get("CONVSCOPE_MODEL")
    names = list(models or ([default] if default else ()))
    if len(names) > 2:
        raise UsageError(f"{len(names)} networks were named; the app compares two: -m A -m B")
    if not names:
        own = "demo" if opened is None else model_name(opened)
        names = [own] if own else []
    if not names:
        opt.note("the atlas does not name a network that can be loaded; give one with -m MODEL")
    serve_app(
        atlas=atlas if opened is None else opened,
        images=image or (),
        data=data,
        port=port,
        open=open,
        allow=allow or (),
        cache_bytes=memory << 20,
        on_ready=_print_address,
        load_models=[
            partial(
                opt.load_model,
                name,
                weights if first else None,
                preprocess,
                classes,
                input_shape,
                unchecked,
            )
            for first, name in zip((True, False), names, strict=False)
        ],
    )


def _print_address(address: str) -> None:
    typer.echo(f"convscope is running at {address}  (Ctrl-C ends it)")
