"""Where figures are written: to the one file named, or into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from convscope._plot import Sheet


class FigureWriter:
    """Where pictures go: to the one file named, else under a name of their own into a folder."""

    def __init__(self, output: Path | None, show: bool, many: bool = False) -> None:
        self._output = output
        self._show = show
        self._many = many
        self._written: set[Path] = set()

    def write(self, sheet: Sheet, image: Path, what: str, alone: bool = True) -> None:
        target = self._output
        if target is None or not target.suffix or self._many or not alone:
            suffix = target.suffix if target is not None and target.suffix else ".png"
            target = self.path(image, what, suffix)
        self.say(sheet.save(target))
        if self._show:
            typer.launch(str(target))

    def path(self, image: Path, what: str, suffix: str) -> Path:
        from convscope._layers import figure_name

        folder, name = self._output or Path(), image.name
        if folder.suffix:  # one name was given for several pictures
            folder, name = folder.parent, folder.stem if not self._many else name
        target = folder / figure_name(name, what, suffix)
        if target in self._written:  # pictures of the same name from different folders
            target = folder / figure_name(f"{image.parent.name} {image.name}", what, suffix)
        self._written.add(target)
        return target

    def say(self, path: Path) -> None:
        typer.echo(path)
