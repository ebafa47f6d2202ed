"""Size of what a tool adds to an environment that has torch and torchvision.

python benchmarks/size.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from peers import FOLDER, PEERS, plain

GIVEN = ("torch", "torchvision")
OURS = "convscope"


def known(folders: Iterable[str]) -> dict[str, Distribution]:
    """Installed distributions by name; the first folder that has one wins."""
    found: dict[str, Distribution] = {}
    for one in distributions(path=list(folders)):
        found.setdefault(plain(one.name), one)
    return found


def needed(names: Iterable[str], here: dict[str, Distribution]) -> set[str]:
    """Packages with their requirements, without extras; packages not installed are left out."""
    waiting, found = [plain(name) for name in names], set()
    while waiting:
        name = waiting.pop()
        if name in found or name not in here:
            continue
        found.add(name)
        for text in here[name].requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(plain(wanted.name))
    return found


def bytes_of(one: Distribution) -> int:
    """Size on disk; of an editable installation of convscope, its package."""
    files = [Path(str(one.locate_file(file))) for file in one.files or ()]
    if plain(one.name) == OURS:
        import convscope

        files += Path(convscope.__file__).parent.rglob("*")
    unique = {file for file in files if file.suffix != ".pyc" and file.is_file()}
    return sum(file.stat().st_size for file in unique)


def added(names: Iterable[str], folders: Iterable[str]) -> dict[str, int]:
    """The added packages with their sizes in bytes, largest first."""
    here = known(folders)
    new = {one: bytes_of(here[one]) for one in needed(names, here) - needed(GIVEN, here)}
    return dict(sorted(new.items(), key=lambda item: -item[1]))


def sizes() -> Iterator[dict[str, Any]]:
    """A row for every installed tool."""
    tools = {OURS: [OURS]} | {one.name: [w.partition("==")[0] for w in one.wanted] for one in PEERS}
    for name, wanted in tools.items():
        if name in GIVEN:
            continue
        found = added(wanted, [*sys.path, str(FOLDER / name)])
        if not found:
            continue
        largest = {one: round(size / 1e6) for one, size in list(found.items())[:3]}
        size = round(sum(found.values()) / 1e6, 1)
        yield {"tool": name, "packages": len(found), "MB": size, "largest": largest}


if __name__ == "__main__":
    for row in sizes():
        print(row)
