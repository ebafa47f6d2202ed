"""Centered kernel alignment: similarity of two layers' representations of the same images.

Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019. The plain
index is biased upwards where channels are not far fewer than images; the debiased one rests on the
unbiased HSIC of Song et al. (JMLR 2012), whose mean over blocks of images is unbiased too (Nguyen
et al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError
from convscope._similarity.correlation import BLOCK, Rows, centered, products, same_images

Grams = list[NDArray[np.float64]]


def cka(a: Rows, b: Rows, *, debiased: bool = False, block: int = BLOCK) -> float:
    """Linear CKA of two layers on the same images (Kornblith et al., ICML 2019).

    Invariant to an orthogonal transform of a layer's channels (a permutation, say) and to scaling
    them all by one factor.

    Args:
        a: Activations of one layer, ``(Ca, images)``.
        b: Activations of the other, ``(Cb, images)``.
        debiased: Use the unbiased HSIC (Song et al., JMLR 2012).
        block: Number of images read at a time.

    Returns:
        1 for equal representations, 0 for unrelated ones; debiased values of unrelated layers lie
        around 0, also below it. NaN where a layer is constant.

    Raises:
        UsageError: Where the numbers of images differ, or are below 4 with ``debiased``.
    """
    same_images(a, b)
    n = a.shape[1]
    if debiased and n < 4:
        raise UsageError(f"Debiased CKA needs 4 images or more, not {n}")
    rows = [_row_norms(x, block) for x in (a, b)] if debiased else [None, None]
    ab = _hsic(products(a, b, block), rows[0], rows[1], n)
    aa = _hsic(products(a, a, block), rows[0], rows[0], n)
    bb = _hsic(products(b, b, block), rows[1], rows[1], n)
    return float(ab / np.sqrt(aa * bb)) if aa > 0 and bb > 0 else float("nan")


def _hsic(
    crossed: NDArray[np.float64],
    left: NDArray[np.float64] | None,
    right: NDArray[np.float64] | None,
    n: int,
) -> float:
    """‖XYᵀ‖², less its bias where the squared lengths of the images' rows are given."""
    whole = float((crossed**2).sum())
    if left is None or right is None:
        return whole
    bias = n / (n - 2) * float(left @ right)
    return whole - bias + float(left.sum() * right.sum()) / ((n - 1) * (n - 2))


def _row_norms(rows: Rows, block: int) -> NDArray[np.float64]:
    """Each image's squared length, channels centered, ``(N,)``."""
    return np.concatenate([(part**2).sum(0) for part in centered(rows, block)])


def cka_matrix(layers: Sequence[Rows], *, block: int = 512) -> NDArray[np.float64]:
    """Debiased CKA between all layers, in one pass over blocks (Nguyen et al., ICLR 2021).

    Each block gives an unbiased HSIC for every pair; their means make the index, so that memory is
    ``L`` matrices of ``block × block`` at any number of images.

    Args:
        layers: Activations of each layer, ``(C, images)``, on the same images.
        block: Number of images in a block.

    Returns:
        float64 ``(L, L)``, clipped to 0…1, which sampling noise can exceed a little; NaN for a
        constant layer with every layer.

    Raises:
        UsageError: Where the numbers of images differ, or are below 4.
    """
    n = layers[0].shape[1]
    for layer in layers:
        same_images(layers[0], layer)
    if n < 4:
        raise UsageError(f"Debiased CKA needs 4 images or more, not {n}")
    total = np.zeros((len(layers), len(layers)))
    edges = np.linspace(0, n, max(1, n // min(block, n)) + 1).astype(int)
    for start, stop in pairwise(edges.tolist()):
        total += _unbiased([_gram(layer[:, start:stop]) for layer in layers]) * (stop - start)
    own = np.diag(total)
    own = np.where(own > 1e-12 * own.max(initial=0), own, np.nan)
    similarity = np.clip(total / np.sqrt(np.outer(own, own)), 0, 1)
    np.fill_diagonal(similarity, np.where(np.isnan(own), np.nan, 1.0))
    return np.asarray(similarity)


def _gram(rows: Rows) -> NDArray[np.float64]:
    """Images × images, its diagonal 0; centered first, for exactness (HSIC does not care)."""
    block = rows.astype(np.float64)
    block -= block.mean(1, keepdims=True)
    gram = block.T @ block
    np.fill_diagonal(gram, 0)
    return np.asarray(gram)


def _unbiased(grams: Grams) -> NDArray[np.float64]:
    """Song et al.'s HSIC₁ of all pairs of Gram matrices without their diagonals."""
    n = len(grams[0])
    flat = np.stack([gram.ravel() for gram in grams])
    sums = np.stack([gram.sum(0) for gram in grams])
    totals = sums.sum(1)
    traces = flat @ flat.T
    hsic = traces + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sums @ sums.T)
    return np.asarray(hsic / (n * (n - 3)))
