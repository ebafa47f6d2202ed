"""The highest few of many images, for many columns at once, exactly.

A score and an image are one number of 64 bits: the score's bits, turned so that they sort as the
scores do, above the image's index, turned so that earlier images win. Sorting these numbers is
sorting by score, descending, then by index, and merging is sorting again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Where = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.int32]]
"""Given rows of a batch and columns, the position in the map that goes with each."""
_LAST = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class Ranking:
    """For each of ``columns`` columns the ``k`` images with the highest scores, best first.

    Of equal scores the earlier image wins; NaN is not ranked. ``ties`` counts the images whose
    score equals the last one listed, those that are listed among them. A commutative monoid under
    ``merge``, over disjoint sets of images.
    """

    def __init__(self, k: int, columns: int) -> None:
        self.keys: Keys = np.zeros((columns, k), np.uint64)  # 0: nothing
        self.positions = np.full((columns, k), -1, np.int32)
        self.ties = np.zeros(columns, np.int64)
        self._cut = np.full(columns, -np.inf, np.float32)

    def update(self, images: NDArray[np.int64], scores: NDArray[np.float32], where: Where) -> None:
        """Take in the scores ``(N, columns)`` of ``images``, each given once ever."""
        near = np.flatnonzero((scores >= self._cut).any(0))
        if not len(near):
            return
        old = self.keys[near]
        keys = np.sort(np.concatenate([old, _keys(scores[:, near], images).T], 1), 1)[:, ::-1]
        best = np.ascontiguousarray(keys[:, : old.shape[1]])
        self.ties[near] = self._tied(near, keys, best)
        changed = np.flatnonzero((best != old).any(1))
        if len(changed):
            self._enter(near[changed], best[changed], images, where)
        self._cut[near] = np.where(best[:, -1] > 0, _scores(best[:, -1]), -np.inf)

    def _tied(self, columns: NDArray[Any], keys: Keys, best: Keys) -> NDArray[np.int64]:
        """How many images have the score at the new cut: among ``keys``, and before them."""
        old, cut = self.keys[columns] >> _HALF, best[:, -1:] >> _HALF
        tied = (keys >> _HALF == cut).sum(1)
        before = np.where(
            old[:, -1:] == cut, self.ties[columns, None], (old == cut).sum(1)[:, None]
        )
        unlisted = before[:, 0] - (old == cut).sum(1)
        return np.where(cut[:, 0] > 0, tied + unlisted, 0)

    def _enter(
        self, columns: NDArray[Any], best: Keys, images: NDArray[np.int64], where: Where
    ) -> None:
        """Make ``best`` the lists of ``columns``, the positions of newcomers looked up."""
        order = np.argsort(images, kind="stable")
        index = _images(best)
        place = np.minimum(np.searchsorted(images, index, sorter=order), len(images) - 1)
        rows = order[place]
        new = (images[rows] == index) & (best > 0)
        # Those that stay keep their order, and none before them left: the n-th of them is the n-th.
        kept = np.maximum(np.cumsum(~new, 1) - 1, 0)
        positions = np.take_along_axis(self.positions[columns], kept, 1)
        line, _ = np.nonzero(new)
        positions[new] = where(rows[new], columns[line])
        self.keys[columns], self.positions[columns] = best, positions

    def merge(self, other: Self) -> None:
        """Take in what another ranking has seen of other images."""
        keys = np.concatenate([self.keys, other.keys], 1)
        order = np.argsort(~keys, 1, kind="stable")[:, : self.keys.shape[1]]
        best = np.take_along_axis(keys, order, 1)
        cut = best[:, -1:] >> _HALF
        ties = np.zeros_like(self.ties)
        for part in (self, other):
            held = part.keys >> _HALF
            ties += np.where(held[:, -1] == cut[:, 0], part.ties, (held == cut).sum(1))
        self.ties = np.where(cut[:, 0] > 0, ties, 0)
        both = np.concatenate([self.positions, other.positions], 1)
        self.positions = np.take_along_axis(both, order, 1)
        self.keys = best
        self._cut = np.where(best[:, -1] > 0, _scores(best[:, -1]), -np.inf).astype(np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """``score`` float32 (NaN: nothing), ``image`` int64 (-1), ``position`` int32 (-1): each
        ``(k, columns)``; ``ties`` int64 ``(columns,)``."""
        there = self.keys > 0
        return {
            "score": np.where(there, _scores(self.keys), np.float32(np.nan)).T,
            "image": np.where(there, _images(self.keys), -1).T,
            "position": self.positions.T,
            "ties": self.ties,
        }

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """The ranking with that state."""
        k, columns = state["score"].shape
        made = cls(k, columns)
        images = np.maximum(state["image"], 0)
        keys = _keys(state["score"], images)
        made.keys = np.ascontiguousarray(np.where(state["image"] < 0, np.uint64(0), keys).T)
        made.positions = np.ascontiguousarray(state["position"].T)
        made.ties = state["ties"].copy()
        last = made.keys[:, -1]
        made._cut = np.where(last > 0, _scores(last), -np.inf).astype(np.float32)
        return made


def _keys(scores: NDArray[np.float32], images: NDArray[np.int64]) -> Keys:
    """Numbers that sort as (score, then earlier image) do; 0 for NaN."""
    bits = (scores + np.float32(0)).view(np.uint32)  # −0 becomes 0
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    column = images.astype(np.uint64)
    earlier = _LAST - (column[:, None] if images.ndim == 1 else column)
    return np.where(np.isnan(scores), np.uint64(0), rising << _HALF | earlier)


def _scores(keys: Keys) -> NDArray[np.float32]:
    rising = (keys >> _HALF).astype(np.uint32)
    bits = np.where(rising >> 31, rising & np.uint32(0x7FFFFFFF), ~rising)
    return np.ascontiguousarray(bits).view(np.float32)


def _images(keys: Keys) -> NDArray[np.int64]:
    return np.asarray((_LAST - (keys & _LAST)).astype(np.int64))
