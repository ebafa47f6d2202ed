"""The top k of many images, for many columns at once, exactly.

A score and an image make one key of 64 bits: the score's bits, transformed so that they sort as the
scores do, above the image's index, inverted so that earlier images win. Sorting the keys sorts by
score, descending, then by index; merging is sorting again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
PositionLookup = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.int32]]
"""From rows of a batch and columns to the position in the map that goes with each pair."""
_LAST = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class TopK:
    """For each of ``columns`` columns the ``k`` images with the highest scores, highest first.

    Of equal scores the earlier image wins; NaN is not ranked. ``ties`` is the number of images
    whose score equals that of the last one listed, those listed included. A commutative monoid
    under ``merge``, over disjoint sets of images.
    """

    def __init__(self, k: int, columns: int) -> None:
        self.keys: Keys = np.zeros((columns, k), np.uint64)  # 0: no image
        self.positions = np.full((columns, k), -1, np.int32)
        self.ties = np.zeros(columns, np.int64)
        self._threshold = np.full(columns, -np.inf, np.float32)

    def update(
        self, images: NDArray[np.int64], scores: NDArray[np.float32], positions_of: PositionLookup
    ) -> None:
        """Add the scores ``(N, columns)`` of ``images``; each image is given only once."""
        near = np.flatnonzero((scores >= self._threshold).any(0))
        if not len(near):
            return
        old = self.keys[near]
        keys = np.sort(np.concatenate([old, _keys(scores[:, near], images).T], 1), 1)[:, ::-1]
        best = np.ascontiguousarray(keys[:, : old.shape[1]])
        self.ties[near] = self._count_ties(near, keys, best)
        changed = np.flatnonzero((best != old).any(1))
        if len(changed):
            self._replace(near[changed], best[changed], images, positions_of)
        self._threshold[near] = _last_score(best)

    def _count_ties(self, columns: NDArray[Any], keys: Keys, best: Keys) -> NDArray[np.int64]:
        """The number of images with the last listed score: among ``keys``, and before them."""
        old, last = self.keys[columns] >> _HALF, best[:, -1:] >> _HALF
        tied = (keys >> _HALF == last).sum(1)
        before = np.where(
            old[:, -1:] == last, self.ties[columns, None], (old == last).sum(1)[:, None]
        )
        unlisted = before[:, 0] - (old == last).sum(1)
        return np.where(last[:, 0] > 0, tied + unlisted, 0)

    def _replace(
        self,
        columns: NDArray[Any],
        best: Keys,
        images: NDArray[np.int64],
        positions_of: PositionLookup,
    ) -> None:
        """Make ``best`` the lists of ``columns``; look up the positions of the new entries."""
        order = np.argsort(images, kind="stable")
        index = _images(best)
        at = np.minimum(np.searchsorted(images, index, sorter=order), len(images) - 1)
        rows = order[at]
        new = (images[rows] == index) & (best > 0)
        # Old entries keep their order, and none above them left: the n-th stays the n-th.
        kept = np.maximum(np.cumsum(~new, 1) - 1, 0)
        positions = np.take_along_axis(self.positions[columns], kept, 1)
        line, _ = np.nonzero(new)
        positions[new] = positions_of(rows[new], columns[line])
        self.keys[columns], self.positions[columns] = best, positions

    def merge(self, other: Self) -> None:
        """Add what another one has gathered from other images."""
        keys = np.concatenate([self.keys, other.keys], 1)
        order = np.argsort(~keys, 1, kind="stable")[:, : self.keys.shape[1]]
        best = np.take_along_axis(keys, order, 1)
        last = best[:, -1:] >> _HALF
        ties = np.zeros_like(self.ties)
        for one in (self, other):
            held = one.keys >> _HALF
            ties += np.where(held[:, -1] == last[:, 0], one.ties, (held == last).sum(1))
        self.ties = np.where(last[:, 0] > 0, ties, 0)
        both = np.concatenate([self.positions, other.positions], 1)
        self.positions = np.take_along_axis(both, order, 1)
        self.keys = best
        self._threshold = _last_score(best)

    def state(self) -> dict[str, NDArray[Any]]:
        """The lists as arrays.

        ``score`` float32 (NaN: no image), ``image`` int64 (−1), ``position`` int32 (−1), each
        ``(k, columns)``; ``ties`` int64 ``(columns,)``.
        """
        listed = self.keys > 0
        return {
            "score": np.where(listed, _scores(self.keys), np.float32(np.nan)).T,
            "image": np.where(listed, _images(self.keys), -1).T,
            "position": self.positions.T,
            "ties": self.ties,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """The lists that ``state`` returned."""
        k, columns = state["score"].shape
        made = cls(k, columns)
        images = np.maximum(state["image"], 0)
        keys = _keys(state["score"], images)
        made.keys = np.ascontiguousarray(np.where(state["image"] < 0, np.uint64(0), keys).T)
        made.positions = np.ascontiguousarray(state["position"].T)
        made.ties = state["ties"].copy()
        made._threshold = _last_score(made.keys)
        return made


def _keys(scores: NDArray[np.float32], images: NDArray[np.int64]) -> Keys:
    """Numbers that sort by score, then by earlier image; 0 for NaN."""
    bits = (scores + np.float32(0)).view(np.uint32)  # −0 becomes 0
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    column = images.astype(np.uint64)
    earlier = _LAST - (column[:, None] if images.ndim == 1 else column)
    return np.where(np.isnan(scores), np.uint64(0), rising << _HALF | earlier)


def _scores(keys: Keys) -> NDArray[np.float32]:
    rising = (keys >> _HALF).astype(np.uint32)
    bits = np.where(rising >> 31, rising & np.uint32(0x7FFFFFFF), ~rising)
    return np.ascontiguousarray(bits).view(np.float32)


def _last_score(keys: Keys) -> NDArray[np.float32]:
    """The score of the last one listed; −∞ where a list is not full."""
    last = keys[:, -1]
    return np.where(last > 0, _scores(last), -np.inf).astype(np.float32)


def _images(keys: Keys) -> NDArray[np.int64]:
    return np.asarray((_LAST - (keys & _LAST)).astype(np.int64))
