"""Everything convscope raises deliberately, in one tree.

    ConvscopeError
    ├── UsageError            a wrong argument: a range, a color map, a malformed address
    ├── MissingDependency     an optional package is not installed (the text holds the pip command)
    ├── ModelError            a model cannot be found, built or run
    │   ├── WeightsError      weights do not fit, or cannot be obtained
    │   └── UnsafeFile        a file that would run code when it is opened
    ├── UnknownLayer          no such layer, channel or position in this model
    ├── ImageError            an image cannot be read, or does not fit the model
    ├── DatasetError          a dataset cannot be read, or holds nothing
    └── AtlasError            an atlas cannot be read or written, or is of another scan

Each message is one line: it names the input, the nearest right value, and the next command.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any


class ConvscopeError(Exception):
    """The root: the command line prints its text on one line and exits with 1."""


class UsageError(ConvscopeError):
    """A wrong argument."""


class MissingDependency(ConvscopeError):
    """An optional package is not installed."""

    def __init__(self, package: str, what: str, extra: str | None = None) -> None:
        requirement = f"convscope[{extra}]" if extra else package
        super().__init__(f"{what} needs {package}. Install it: pip install '{requirement}'")


class ModelError(ConvscopeError):
    """A model cannot be found, built or run."""


class WeightsError(ModelError):
    """Weights do not fit their network, or cannot be obtained."""


class UnsafeFile(ModelError):
    """A file that would run code when it is opened."""


class UnknownLayer(ConvscopeError, KeyError):
    """No such layer, channel or position in this model."""

    __str__ = Exception.__str__  # a KeyError would print its text in quotes


class ImageError(ConvscopeError):
    """An image cannot be read, or does not fit the model."""


class DatasetError(ConvscopeError):
    """A dataset cannot be read, or holds nothing."""


class AtlasError(ConvscopeError):
    """An atlas cannot be read or written, or is of another scan."""


def import_optional(module: str, package: str, what: str, extra: str | None = None) -> Any:
    """Import a module of an optional package.

    Args:
        module: The module, such as ``matplotlib.figure``.
        package: The package to install it from.
        what: What needs it, as the start of the message.
        extra: The extra of convscope that holds the package, if any.

    Returns:
        The module.

    Raises:
        MissingDependency: Where ``package`` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise MissingDependency(package, what, extra) from None


def untrained_note(evidence: str, subject: str = "this network") -> str:
    """The warning for a network whose weights look untrained; empty where there is no evidence."""
    return f"{subject} looks untrained: {evidence}" if evidence else ""


def closest(word: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Find the known names nearest to a word, as part of a message.

    Args:
        word: What was given.
        known: The names that exist.
        limit: Largest number of names.

    Returns:
        ``" Close: 'a', 'b'."``, nearest first, equally near ones in the order of ``known``; empty
        where nothing is near.

    >>> closest("virids", ["viridis", "magma"])
    " Close: 'viridis'."
    """
    names = list(dict.fromkeys(known))
    matcher = SequenceMatcher(b=word.lower(), autojunk=False)
    scores = {name: score for name in names if (score := _score(matcher, name)) >= 0.5}
    best = max(scores.values(), default=0.0)
    near = [name for name, score in scores.items() if score >= best - 0.15]
    near.sort(key=lambda name: -scores[name])
    if not near and word:
        near = [name for name in names if word.lower() in name.lower()]
    return f" Close: {', '.join(map(repr, near[:limit]))}." if near else ""


def check_name(kind: str, name: str, names: Iterable[str]) -> str:
    """Check that a name is one of those known.

    Args:
        kind: What it names, for the message.
        name: The name.
        names: The names that exist.

    Returns:
        ``name``.

    Raises:
        UsageError: Where it is not; the message lists the nearest of more than two, then all.

    >>> check_name("baseline", "gry", ["zero", "gray", "blurred"])
    Traceback (most recent call last):
    convscope._errors.UsageError: No baseline 'gry'. Close: 'gray'. Known: zero, gray, blurred
    """
    names = list(names)
    if name in names:
        return name
    name = name[:40]
    near = closest(name, names) if len(names) > 2 else ""
    raise UsageError(f"No {kind} {name!r}.{near} Known: {', '.join(names)}")


def _score(matcher: SequenceMatcher[str], name: str) -> float:
    """How alike two names are, 0 to 1; 0 as soon as a cheap bound shows that they are not."""
    matcher.set_seq1(name.lower())
    if matcher.real_quick_ratio() < 0.5 or matcher.quick_ratio() < 0.5:
        return 0.0
    return matcher.ratio()


_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "oom when allocating",
    "resource exhausted",
    "resource_exhausted",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception of any framework, or one that caused it, means that memory ran out.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    True
    """
    visited: set[int] = set()  # an error that is raised again may be part of its own history
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        text = str(error).lower() if isinstance(error, Exception) else ""
        if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of a foreign exception on one line, as part of a message.

    >>> one_line(OSError(2, "No such\\nfile"))
    'No such file'
    """
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:limit].rstrip(".:") or type(error).__name__
