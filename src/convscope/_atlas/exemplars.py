"""Images that stand for a channel: its strongest, its weakest, and what is between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from PIL import Image

from convscope._atlas.geometry import Box

if TYPE_CHECKING:
    from convscope._atlas.thumbnails import StoredMap
    from convscope._atlas.unit import Unit


@dataclass(frozen=True)
class Exemplar:
    """One image and one channel.

    - ``image``: its index in the listing; ``id``: its path or index in the dataset; ``label``: the
      name of its class, empty where it has none.
    - ``score``: what it is listed for, the mean or the peak of its map.
    - ``position``: ``(y, x)`` in the map: of its highest value (of its lowest among the bottom by
      mean).
    - ``rank``: its place in the list, from 0; for quantiles, ``quantile`` is which.
    """

    unit: Unit
    rank: int
    image: int
    id: str
    label: str
    score: float
    position: tuple[int, int]
    quantile: float | None = None

    @property
    def address(self) -> str:
        """``features.5:12@3,4``."""
        return f"{self.unit.address}@{self.position[0]},{self.position[1]}"

    @property
    def seen_box(self) -> Box | None:
        """``(top, left, bottom, right)`` of what the position looks at, in the picture as seen.

        ``None`` where the receptive field is not known.
        """
        return self.unit.layer.seen_box(self.position)

    @property
    def crop_box(self) -> Box | None:
        """The same in pixels of the original image, clipped at its borders; fractions are kept.

        ``None`` where the field is not known, or the image's size is not (no thumbnails yet).
        """
        seen, view = self.seen_box, self.unit.layer.atlas.thumbnails.view(self.image)
        return None if seen is None or view is None else view.to_original(seen)

    def thumbnail(self) -> Image.Image | None:
        """The whole image, small; ``None`` where the atlas has no thumbnail of it."""
        return self.unit.layer.atlas.thumbnails.image(self.image)

    def crop(self) -> Image.Image | None:
        """What the position looks at, cut from the original; else, coarser, from the thumbnail."""
        box = self.crop_box
        if box is None:
            return self.thumbnail()
        return self.unit.layer.atlas.thumbnails.crop(self.image, box)

    def map(self) -> StoredMap | None:
        """The channel's map of this image, in 8 bits and at most 56×56; ``None`` where not kept."""
        thumbnails = self.unit.layer.atlas.thumbnails
        return thumbnails.map(self.unit.layer.path, self.unit.channel, self.image)


class Exemplars(Sequence[Exemplar]):
    """A list of exemplars, best first.

    ``ties`` is how many images of the whole dataset have the score of the last one listed, those
    listed among them; ``arbitrary`` says whether some of those were left out, so that which are
    listed is only a matter of their order in the dataset.
    """

    def __init__(self, listed: Sequence[Exemplar], ties: int = 0, name: str = "") -> None:
        self._listed = tuple(listed)
        self.ties = ties
        self.name = name

    def __len__(self) -> int:
        return len(self._listed)

    @overload
    def __getitem__(self, key: int) -> Exemplar: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Exemplar]: ...
    def __getitem__(self, key: int | slice) -> Exemplar | Sequence[Exemplar]:
        return self._listed[key]

    def __iter__(self) -> Iterator[Exemplar]:
        return iter(self._listed)

    @property
    def arbitrary(self) -> bool:
        """Whether images that score the same as the last one listed were left out."""
        return bool(self._listed) and self.ties > self._tied

    @property
    def _tied(self) -> int:
        """How many listed have the last one's score."""
        return sum(one.score == self._listed[-1].score for one in self._listed)

    def sentence(self) -> str:
        """What has to be said of the cut; empty where nothing has."""
        if not self.arbitrary:
            return ""
        last = self._listed[-1].score
        return (
            f"{self.ties:,} images score {last:.4g}; of these the first {self._tied} in the "
            "listing are shown"
        )

    def __repr__(self) -> str:
        rows = [
            f"{one.rank + 1:>3}  {one.score:>12.6g}  {one.id}  at {one.position[0]},"
            f"{one.position[1]}"
            for one in self._listed
        ]
        return "\n".join([self.name, *rows, *filter(None, [self.sentence()])])
