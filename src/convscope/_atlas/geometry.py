"""From the picture that the model saw back to the original, without the model."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""``(top, left, bottom, right)``, edges; bottom and right excluded."""


@dataclass(frozen=True)
class Placed:
    """How an original image of ``height`` × ``width`` was resized and cropped.

    ``scale``: seen pixels per original pixel; ``offset``: of the seen picture in the resized one.
    """

    height: int
    width: int
    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_original(self, box: Box) -> Box:
        """A box in seen pixels as one in original pixels, clipped at the image's borders."""
        (sy, sx), (oy, ox) = self.scale, self.offset
        rows = [min(max((y + oy) / sy, 0.0), float(self.height)) for y in (box[0], box[2])]
        columns = [min(max((x + ox) / sx, 0.0), float(self.width)) for x in (box[1], box[3])]
        return rows[0], columns[0], rows[1], columns[1]


def pixels(box: Box) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, at least one: ``(top, left, bottom, right)``."""
    top, left = int(box[0] + 1e-6), int(box[1] + 1e-6)
    bottom, right = -int(-box[2] // 1), -int(-box[3] // 1)
    return top, left, max(bottom, top + 1), max(right, left + 1)
