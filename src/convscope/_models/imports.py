"""Small helpers of everything that builds networks: importing, calling, class names."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from convscope._errors import ConvscopeError, MissingDependency, ModelError
from convscope._models.weights import one_line


def imported(module: str, package: str, what: str, extra: str | None = None) -> Any:
    """``module``, or ``MissingDependency`` where ``package`` is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise MissingDependency(package, what, extra) from None


def made(make: Callable[[], Any], what: str) -> Any:
    """``make()``; what it raises becomes one line."""
    try:
        return make()
    except ConvscopeError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(what, error) from error


def _failed(what: str, error: BaseException) -> ModelError:
    frames = traceback.extract_tb(error.__traceback__)
    files = [f for f in frames if Path(f.filename).parent != Path(__file__).parent]
    where = f" ({Path(files[-1].filename).name}:{files[-1].lineno})" if files else ""
    return ModelError(
        f"{what} raised {type(error).__name__}: {one_line(error)}{where}. "
        "The whole traceback: --debug"
    )


def imagenet_classes() -> tuple[str, ...]:
    """The thousand class names of ImageNet-1k, in the usual order."""
    text = (resources.files("convscope._models") / "builtin" / "imagenet.txt").read_text("utf-8")
    return tuple(text.splitlines())
