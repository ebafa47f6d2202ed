"""What changed between two networks, as sentences and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._comparison.measured import Pair, Side
from convscope._loading import ImageLoader
from convscope._plot import Section, Sheet, Theme, Tile, map_tiles, picture_tile
from convscope._plot.curves import cell_tiles
from convscope._plot.text import number

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two networks on the same pictures.

    - ``alignment``: CKA, layers of ``a`` down, of ``b`` across; ``None`` for under four pictures
    - ``pairs``: layers of both, channel by channel
    - ``labels``: true classes as names, where the pictures are labeled with names both know
    """

    a: Side
    b: Side
    feed: ImageLoader
    alignment: NDArray[np.float64] | None
    pairs: tuple[Pair, ...]
    labels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        """The two networks', told apart where they bear one name."""
        one, other = self.a.model.title, self.b.model.title
        short = one.rpartition("/")[2], other.rpartition("/")[2]
        if Path(one).suffix and Path(other).suffix and short[0] != short[1]:
            return short  # files of different names: where they lie says nothing
        return (one, other) if one != other else (f"{one} (A)", f"{other} (B)")

    @property
    def changed(self) -> list[int]:
        """Rows of the pictures that are taken for different classes."""
        return [k for k in range(len(self.a.chances)) if self.a.answer(k) != self.b.answer(k)]

    def sentences(self) -> list[str]:
        """What changed, for a reader in a hurry."""
        return [self._answers(), *filter(None, [self._alike(), self._channels()])]

    def _answers(self) -> str:
        count, of = len(self.changed), len(self.a.chances)
        first, second = self.names
        if of == 1:
            sure = [float(side.chances[0].max()) for side in (self.a, self.b)]
            return (
                f"{first}: {self.a.answer(0)} ({sure[0]:.0%}); {second}: {self.b.answer(0)} "
                f"({sure[1]:.0%})"
            )
        said = f"{first} and {second} answer differently on {count:,} of {of:,} pictures"
        if not self.labels:
            return said
        right = [
            sum(side.answer(k) == name for k, name in enumerate(self.labels))
            for side in (self.a, self.b)
        ]
        mended = sum(self.b.answer(k) == self.labels[k] for k in self.changed)
        broken = sum(self.a.answer(k) == self.labels[k] for k in self.changed)
        return (
            f"{said}: {mended:,} mended, {broken:,} broken; accuracy {right[0] / of:.1%} → "
            f"{right[1] / of:.1%}"
        )

    def _alike(self) -> str:
        if self.alignment is None or not self.pairs:
            return ""
        rows, columns = list(self.a.pooled), list(self.b.pooled)
        own = [
            float(self.alignment[rows.index(p.left.path), columns.index(p.right.path)])
            for p in self.pairs
        ]
        least = int(np.nanargmin(own)) if np.isfinite(own).any() else 0
        pair = self.pairs[least]
        where = pair.left.path
        where += "" if pair.right.path == where else f" and {pair.right.path}"
        return (
            f"layers are least alike at {where} (CKA {own[least]:.3f}; mean {np.nanmean(own):.3f})"
        )

    def _channels(self) -> str:
        first = next((pair for pair in self.pairs if pair.changed), None)
        moved = next((p for p in self.pairs if 2 * p.permuted > p.left.channels), None)
        if moved:
            return (
                f"{moved.permuted} of {moved.left.channels} channels of {moved.left.path} answer "
                "as before, but in another place: see the match"
            )
        if first is None:
            same = all(pair.moved is not None for pair in self.pairs)
            return "no channel that was compared answers differently" if same else ""
        named = ", ".join(f"{first.left.path}:{k}" for k in first.changed[:5])
        count, of = len(first.changed), first.left.channels
        return f"the first layer that differs is {first.left.path}: {count} of {of} ({named})"

    def sheet(self, *, theme: Theme = "light") -> Sheet:
        """How alike all layers are, and for one picture the maps side by side."""
        sections = [*self._alignment_section()]
        lines = [
            f"A {self.names[0]} · B {self.names[1]} · {self.feed.describe()}",
            *self.sentences(),
            "rows: A's layers, columns: B's; 1 = both see the pictures alike, however their "
            "channels lie",
        ]
        if not sections:
            return self.maps(theme=theme)
        title = f"{self.names[0]} against {self.names[1]}"
        return Sheet(title, tuple(lines), tuple(sections), theme=theme, noun="cell")

    def _alignment_section(self) -> list[Section]:
        if self.alignment is None:
            return []
        tiles = cell_tiles(self.alignment, low=0.0, high=1.0)
        rows, heads = tuple(self.a.pooled), tuple(self.b.pooled)
        return [Section("linear CKA", tuple(tiles), len(heads), rows, heads)]

    def maps(self, row: int = 0, *, most: int = _SHOWN, theme: Theme = "light") -> Sheet:
        """The maps of one picture: A, B and B − A on one scale, the most changed channels."""
        picture = self.feed.dataset.image(int(self.feed.indices[row]))
        sections: list[Section] = []
        for pair in self.pairs:
            sections += self._side_by_side(pair, picture, most)
        seen = self.a.model.preprocessed(self.a.model.prepare(picture, size=self.feed.size))[0]
        sections.insert(0, Section("input", (picture_tile(seen, "what A sees"),)))
        name = str(self.feed.dataset.ids[int(self.feed.indices[row])])
        lines = (
            f"A {self.names[0]} · B {self.names[1]} · input {name}",
            *self.sentences(),
            *self._legend(most, drawn=len(sections) > 1),
        )
        title = f"{self.names[0]} against {self.names[1]} · maps of {name}"
        return Sheet(title, lines, tuple(sections), cmap="signed", theme=theme, cell=88)

    def _legend(self, most: int, drawn: bool) -> tuple[str, ...]:
        if not drawn:
            return (
                "no layer of the one is a layer of the other, and there were too few pictures "
                "to tell which channels go together: give three or more",
            )
        lines = []
        if any(pair.moved is not None for pair in self.pairs):
            lines.append(
                f"for each layer the {most} channels that differ most here: A, B, B − A, "
                "all three on one scale around 0"
            )
        if any(pair.moved is None for pair in self.pairs):
            lines.append(
                f"of layers that are not the same, the {most} channels that go together "
                "best over all pictures, r their correlation; each network on its own "
                "scale around 0"
            )
        return tuple(lines)

    def _side_by_side(self, pair: Pair, picture: Any, most: int) -> list[Section]:
        if not (pair.left.is_map and pair.right.is_map):
            return []
        one, other = (
            self._values(side, layer.path, picture)
            for side, layer in ((self.a, pair.left), (self.b, pair.right))
        )
        if pair.moved is None or one.shape != other.shape:
            return _matched(pair, one, other, most)
        gap = other - one
        order = np.argsort(-np.abs(gap).max((1, 2)), kind="stable")[:most]
        reach = float(max(np.abs(one[order]).max(), np.abs(other[order]).max(), np.abs(gap).max()))
        span = (-reach or -1.0, reach or 1.0)
        tiles: list[Tile] = []
        for mark, values in (("A", one), ("B", other), ("B − A", gap)):
            labels = [f"{mark} {int(k)}" for k in order]
            tiles += map_tiles(
                values, channels=order.tolist(), range=span, signed=True, labels=labels
            )
        largest = number(float(np.abs(gap).max()))
        heading = f"{pair.left.path} · largest difference {largest}"
        return [Section(heading, tuple(tiles), len(order))]

    def _values(self, side: Side, path: str, picture: Any) -> NDArray[np.float32]:
        batch = side.model.prepare(picture, size=self.feed.size)
        return np.asarray(side.model.activations(batch, [path])[path][0].cpu().numpy())

    def save(self, path: str | Path, *, theme: Theme = "light") -> list[Path]:
        """Write the overview; into a folder, the maps of the pictures that changed most too."""
        path = Path(path)
        if path.suffix:
            return [self.sheet(theme=theme).save(path)]
        written = [self.sheet(theme=theme).save(path / "comparison.png")]
        gaps = np.abs(self.a.chances.max(1) - self.b.chances.max(1))
        rows = sorted(self.changed, key=lambda k: -gaps[k])[:3] or [0]
        for row in rows:
            written.append(self.maps(row, theme=theme).save(path / f"maps-{row}.png"))
        return written

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, for JSON."""
        return {
            "models": list(self.names),
            "pictures": self.feed.describe(),
            "sentences": self.sentences(),
            "changed": [
                {
                    "id": str(self.feed.dataset.ids[int(self.feed.indices[k])]),
                    "a": self.a.answer(k),
                    "b": self.b.answer(k),
                }
                for k in self.changed
            ],
            "alignment": None
            if self.alignment is None
            else {
                "a": list(self.a.pooled),
                "b": list(self.b.pooled),
                "cka": np.round(np.nan_to_num(self.alignment, nan=-1), 5).tolist(),
            },
            "pairs": [
                {
                    "a": p.left.path,
                    "b": p.right.path,
                    "changed": p.changed,
                    "match": p.match and p.match.right[np.argsort(p.match.left)].tolist(),
                }
                for p in self.pairs
            ],
        }

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return f"Comparison({'; '.join(self.sentences())})"


def _matched(
    pair: Pair, one: NDArray[np.float32], other: NDArray[np.float32], most: int
) -> list[Section]:
    """The channels of two different layers that go together best, each network on its own scale."""
    if pair.match is None:
        return []
    best = np.argsort(-pair.match.correlations, kind="stable")[:most]
    tiles: list[Tile] = []
    heads = []
    for mark, values, which, path in (
        ("A", one, pair.match.left, pair.left.path),
        ("B", other, pair.match.right, pair.right.path),
    ):
        shown = which[best].tolist()
        reach = float(np.abs(values[shown]).max()) or 1.0
        close = [f" · r {pair.match.correlations[k]:.2f}" if mark == "B" else "" for k in best]
        labels = [f"{mark} {int(k)}{r}" for k, r in zip(shown, close, strict=True)]
        tiles += map_tiles(
            values, channels=shown, range=(-reach, reach), signed=True, labels=labels
        )
        heads.append(f"{mark} {path}, {number(-reach)}…{number(reach)}")
    return [Section(" · ".join(heads), tuple(tiles), len(best))]
