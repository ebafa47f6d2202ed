"""Where figures are written: to the one file named, or into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from convscope._plot import Sheet


class FigureWriter:
    """Writes figures: to the one file named, else into a folder, named after image and layer."""

    def __init__(self, output: Path | None, show: bool, several: bool = False) -> None:
        self._output = output
        self._show = show
        self._several = several
        self._written: set[Path] = set()

    def write(self, sheet: Sheet, image: Path, what: str, alone: bool = True) -> None:
        target = self._output
        if target is None or not target.suffix or self._several or not alone:
            suffix = target.suffix if target is not None and target.suffix else ".png"
            target = self.path(image, what, suffix)
        self.report(sheet.save(target))
        if self._show:
            typer.launch(str(target))

    def path(self, image: Path, what: str, suffix: str) -> Path:
        from convscope._layers import figure_name

        folder, name = self._output or Path(), image.name
        if folder.suffix:  # one file name was given for several figures
            folder, name = folder.parent, folder.stem if not self._several else name
        target = folder / figure_name(name, what, suffix)
        if target in self._written:  # images of the same name from different folders
            target = folder / figure_name(f"{image.parent.name} {image.name}", what, suffix)
        self._written.add(target)
        return target

    def report(self, path: Path) -> None:
        """Print the path of a file that was written."""
        typer.echo(path)
