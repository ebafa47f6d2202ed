"""Images that exemplify a channel: those it responds to most, least, and in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from PIL import Image

from convscope._atlas.reader import LayerAtlas
from convscope._atlas.thumbnails import Box, StoredMap


@dataclass(frozen=True)
class Exemplar:
    """One image of the dataset, as an example of what a channel responds to.

    Attributes:
        layer: The layer.
        channel: The channel.
        rank: Its place in the list, from 0.
        image: Its index in the dataset.
        id: Its path or index in the dataset.
        label: The name of its class; empty for unlabeled data.
        score: What it is ranked by: the mean or the peak of the channel's feature map.
        position: ``(y, x)`` in the feature map: of the highest value, or, in the list of the
            lowest means, of the lowest value.
        quantile: Which quantile it stands for; ``None`` in other lists.
    """

    layer: LayerAtlas
    channel: int
    rank: int
    image: int
    id: str
    label: str
    score: float
    position: tuple[int, int]
    quantile: float | None = None

    @property
    def address(self) -> str:
        """Layer, channel and position: ``features.5:12@3,4``."""
        return f"{self.layer.path}:{self.channel}@{self.position[0]},{self.position[1]}"

    @property
    def input_box(self) -> Box | None:
        """The receptive field of the position, in pixels of the preprocessed input.

        ``(top, left, bottom, right)``; ``None`` where the receptive field is not known.
        """
        return self.layer.input_box(self.position)

    @property
    def crop_box(self) -> Box | None:
        """The receptive field in pixels of the original image, clipped at its borders.

        ``(top, left, bottom, right)``, not rounded; ``None`` where the receptive field is not
        known, or the atlas has no thumbnail of the image.
        """
        box, original = self.input_box, self.layer.atlas.thumbnails.geometry(self.image)
        return None if box is None or original is None else original.to_original(box)

    def thumbnail(self) -> Image.Image | None:
        """The whole image, small; ``None`` where the atlas has no thumbnail of it."""
        return self.layer.atlas.thumbnails.image(self.image)

    def crop(self) -> Image.Image | None:
        """The receptive field of the position, cut from the image; where not known, all of it.

        From the original image, or, coarser, from the thumbnail; ``None`` without a thumbnail.
        """
        box = self.crop_box
        if box is None:
            return self.thumbnail()
        return self.layer.atlas.thumbnails.crop(self.image, box)

    def map(self) -> StoredMap | None:
        """The channel's feature map in 8 bits, at most 56×56; ``None`` where it is not stored."""
        return self.layer.atlas.thumbnails.map(self.layer.path, self.channel, self.image)

    def to_dict(self) -> dict[str, Any]:
        """Rank, image, score, position and crop box, ready for JSON."""
        return {
            "rank": self.rank,
            "image": self.image,
            "id": self.id,
            "label": self.label,
            "score": self.score,
            "position": self.position,
            "crop": self.crop_box,
        }


class Exemplars(Sequence[Exemplar]):
    """A ranked list of exemplars. Prints as a table.

    Attributes:
        name: What is listed, for a title.
        ties: The number of images of the whole dataset whose score equals that of the last one
            listed, those listed included.
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
        """Whether images with the same score as the last one listed were left out.

        Then which of these are listed depends on their order in the dataset alone.
        """
        return bool(self._listed) and self.ties > self._listed_ties

    @property
    def _listed_ties(self) -> int:
        return sum(one.score == self._listed[-1].score for one in self._listed)

    def tie_note(self) -> str:
        """A sentence on images left out for a tie; empty where there are none."""
        if not self.arbitrary:
            return ""
        score = self._listed[-1].score
        return (
            f"{self.ties:,} images have the score {score:.4g}; the first {self._listed_ties} of "
            "them in the dataset are shown"
        )

    def to_dict(self) -> dict[str, Any]:
        """Name, number of ties and exemplars, ready for JSON."""
        exemplars = [one.to_dict() for one in self._listed]
        return {"list": self.name, "ties": self.ties, "exemplars": exemplars}

    def __repr__(self) -> str:
        rows = [
            f"{one.rank + 1:>3}  {one.score:>12.6g}  {one.id}  at {one.position[0]},"
            f"{one.position[1]}"
            for one in self._listed
        ]
        return "\n".join([self.name, *rows, *filter(None, [self.tie_note()])])
