"""Every summary against brute force, whatever way the images are split, ties and NaN included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from convscope._atlas.histogram_bins import HIGH, LOW, ZERO
from convscope._scan.layer_batch_stats import compute_batch_stats, hash_indices
from convscope._scan.summaries import (
    LISTS,
    ClassMeans,
    ExtremeImages,
    Histogram,
    LayerSummary,
    RandomSample,
    SummarySettings,
    ValueStatistics,
)

# Few different values, so that ties are everywhere; −0 must tie with 0.
TIED = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])
ODD = st.one_of(TIED, st.sampled_from([np.nan, np.inf, -np.inf]), st.floats(-1e3, 1e3, width=32))


@st.composite
def scans(draw: Any, values: Any = TIED) -> tuple[NDArray[np.float32], list[list[list[int]]]]:
    """Activations ``(N, C, H, W)``, and shards of batches of image indices, in any order."""
    shape = (
        draw(st.integers(1, 12)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 5)),
    )
    maps = draw(arrays(np.float32, shape, elements=values))
    order = draw(st.permutations(range(shape[0])))
    cuts = sorted(draw(st.lists(st.integers(0, shape[0]), max_size=4)))
    pieces = [list(order[a:b]) for a, b in zip([0, *cuts], [*cuts, shape[0]], strict=True)]
    split = draw(st.integers(0, len(pieces)))
    return maps, [pieces[:split], pieces[split:]]


def summarized(make: Any, maps: NDArray[np.float32], batches: Sequence[list[int]]) -> Any:
    summary = make()
    for batch in batches:
        if batch:
            summary.update(
                compute_batch_stats(np.array(batch, np.int64), torch.from_numpy(maps[batch]))
            )
    return summary


def in_any_split(make: Any, scan: Any) -> list[dict[str, NDArray[Any]]]:
    """The state after one pass, and after two shards merged in either order."""
    maps, (first, second) = scan
    whole = summarized(make, maps, [list(range(len(maps)))])
    a, b = summarized(make, maps, first), summarized(make, maps, second)
    c, d = summarized(make, maps, first), summarized(make, maps, second)
    a.merge(b)
    d.merge(c)
    return [whole.state(), a.state(), d.state()]


def same(states: list[dict[str, NDArray[Any]]], names: Sequence[str] | None = None) -> None:
    for state in states[1:]:
        for name in names or states[0]:
            np.testing.assert_array_equal(state[name], states[0][name], name, strict=True)


def brute_lists(maps: NDArray[np.float32], k: int) -> dict[str, NDArray[Any]]:
    """Every list by a stable sort of all scores."""
    flat = maps.reshape(*maps.shape[:2], -1)
    with np.errstate(invalid="ignore"):
        mean = flat.astype(np.float64).mean(2).astype(np.float32)
    found: dict[str, NDArray[Any]] = {}
    for name, score, sign, place in (
        ("top.mean", mean, 1, flat.argmax(2)),
        ("top.peak", flat.max(2), 1, flat.argmax(2)),
        ("bottom.mean", mean, -1, flat.argmin(2)),
        ("bottom.peak", flat.max(2), -1, flat.argmax(2)),
    ):
        lists = np.full((3, k, maps.shape[1]), np.nan)
        ties = []
        for c in range(maps.shape[1]):
            known = [n for n in range(len(maps)) if not np.isnan(score[n, c])]
            best = sorted(known, key=lambda n, c=c: (-sign * score[n, c], n))[:k]
            for rank, n in enumerate(best):
                lists[:, rank, c] = score[n, c] + 0, n, place[n, c]
            full = len(best) == k
            ties.append(sum(score[n, c] == score[best[-1], c] for n in known) if full else 0)
        lists[1:][np.isnan(lists[1:])] = -1
        found |= {
            f"{name}.score": lists[0].astype(np.float32),
            f"{name}.image": lists[1],
            f"{name}.position": lists[2],
            f"{name}.ties": np.array(ties),
        }
    return found


@given(scans(), st.integers(1, 5))
def test_lists_are_those_of_a_full_sort(scan: Any, k: int) -> None:
    states = in_any_split(lambda: ExtremeImages(k, scan[0].shape[1]), scan)
    same(states)
    for name, expected in brute_lists(scan[0], k).items():
        np.testing.assert_array_equal(states[0][name], expected, name)


@given(scans(ODD), st.integers(1, 5))
def test_lists_leave_out_nan_and_keep_infinity(scan: Any, k: int) -> None:
    states = in_any_split(lambda: ExtremeImages(k, scan[0].shape[1]), scan)
    same(states)
    for name, expected in brute_lists(scan[0], k).items():
        np.testing.assert_array_equal(states[0][name], expected, name)


@given(scans(), st.integers(1, 4))
def test_lists_come_back_from_their_state(scan: Any, k: int) -> None:
    extremes = summarized(
        lambda: ExtremeImages(k, scan[0].shape[1]), scan[0], [list(range(len(scan[0])))]
    )
    same([extremes.state(), ExtremeImages.from_state(extremes.state()).state()])


def test_every_score_of_a_dead_channel_ties_and_the_first_images_are_listed() -> None:
    maps = np.zeros((40, 1, 2, 2), np.float32)
    state = summarized(
        lambda: ExtremeImages(3, 1), maps, [list(range(20)), list(range(20, 40))]
    ).state()
    for name in LISTS:
        assert state[f"{name}.image"][:, 0].tolist() == [0, 1, 2]
        assert state[f"{name}.ties"].tolist() == [40]


@given(scans())
def test_moments_are_those_of_all_values(scan: Any) -> None:
    maps = scan[0]
    states = in_any_split(lambda: ValueStatistics(maps.shape[1]), scan)
    same(states, ["count", "nan", "active", "minimum", "maximum", "mean.count"])
    values = maps.astype(np.float64).transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    means = maps.astype(np.float64).mean((2, 3))
    for state in states:
        assert (state["count"] == values.shape[1]).all()
        assert (state["active"] == (values > 0).sum(1)).all()
        np.testing.assert_array_equal(state["minimum"], values.min(1))
        np.testing.assert_array_equal(state["maximum"], values.max(1))
        np.testing.assert_allclose(state["sum"], values.sum(1), atol=1e-9)
        np.testing.assert_allclose(state["square"], (values**2).sum(1), rtol=1e-5)
        np.testing.assert_allclose(state["mean.sum"], means.sum(0), atol=1e-9)
        np.testing.assert_allclose(state["mean.square"], (means**2).sum(0), atol=1e-9)


@given(scans(ODD))
def test_moments_count_nan_apart(scan: Any) -> None:
    maps = scan[0]
    states = in_any_split(lambda: ValueStatistics(maps.shape[1]), scan)
    same(states, ["count", "nan", "active", "minimum", "maximum", "mean.count"])
    values = maps.astype(np.float64).transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    state = states[0]
    for c, row in enumerate(values):
        known = row[~np.isnan(row)]
        assert (state["count"][c], state["nan"][c]) == (len(known), np.isnan(row).sum())
        assert state["active"][c] == (known > 0).sum()
        assert state["minimum"][c] == known.min(initial=np.inf)
        assert state["maximum"][c] == known.max(initial=-np.inf)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(state["sum"][c], known.sum(), rtol=1e-6, atol=1e-3)
            means = maps[:, c].astype(np.float64).mean((1, 2))
        assert state["mean.count"][c] == np.isfinite(means).sum()


@given(scans(ODD))
@example((np.full((1, 1, 1, 1), 2e-41, np.float32), [[], [[0]]]))  # its first bits are all 0
def test_histograms_count_each_value_in_its_bin(scan: Any) -> None:
    maps = scan[0][:, :, :2, :4]  # eight positions at most: all are sampled
    maps = np.ascontiguousarray(maps)
    states = in_any_split(lambda: Histogram(maps.shape[1]), (maps, scan[1]))
    same(states)
    for c in range(maps.shape[1]):
        values = maps[:, c][~np.isnan(maps[:, c])].astype(np.float64)
        expected = [
            ((values >= low) & (values < high)).sum()
            if low >= 0
            else ((values > low) & (values <= high)).sum()
            for low, high in zip(LOW, HIGH, strict=True)
        ]
        least = 2.0**-128  # what is smaller counts as zero
        expected[ZERO] = (abs(values) < least).sum()
        expected[ZERO + 1] = ((values >= least) & (values < HIGH[ZERO + 1])).sum()
        expected[ZERO - 1] = ((values <= -least) & (values > LOW[ZERO - 1])).sum()
        expected[0], expected[-1] = (values <= HIGH[0]).sum(), (values >= LOW[-1]).sum()
        np.testing.assert_array_equal(states[0]["histogram"][c], expected)


def test_large_maps_are_sampled_at_different_positions_all_over() -> None:
    """Each pixel holds its own index: over many images each position is sampled about as often."""
    maps = np.tile(np.arange(1, 401, dtype=np.float32).reshape(1, 1, 20, 20), (2000, 1, 1, 1))
    stats = compute_batch_stats(np.arange(2000), torch.from_numpy(maps))
    sampled = stats.sampled_values()
    assert sampled.shape == (2000, 1, 8)
    counts = np.bincount(sampled.astype(int).ravel(), minlength=401)[1:]
    assert counts.sum() == 16000
    assert counts.min() > 15  # 40 on average
    assert counts.max() < 80


@given(scans(ODD), st.integers(0, 5))
def test_class_means_are_those_of_each_class(scan: Any, seed: int) -> None:
    maps, (first, second) = scan
    labels = np.random.default_rng(seed).integers(0, 3, len(maps)) * 5

    def summarize(batches: Any) -> ClassMeans:
        made = ClassMeans(maps.shape[1])
        for batch in filter(None, batches):
            stats = compute_batch_stats(np.array(batch, np.int64), torch.from_numpy(maps[batch]))
            made.update(stats, labels[batch])
        return made

    merged, other = summarize(second), summarize(first)
    merged.merge(other)
    state = merged.state()
    assert state["class"].tolist() == sorted(set(labels.tolist()))
    for row, label in enumerate(state["class"]):
        with np.errstate(invalid="ignore"):
            means = maps[labels == label].astype(np.float64).mean((2, 3))
        known = np.isfinite(means)
        assert (state["class.count"][row] == known.sum(0)).all()
        np.testing.assert_allclose(
            state["class.sum"][row], np.where(known, means, 0).sum(0), rtol=1e-9, atol=1e-6
        )


@given(scans(), st.integers(1, 14), st.integers(0, 3))
def test_the_sample_is_the_same_however_it_was_drawn(scan: Any, size: int, seed: int) -> None:
    maps = scan[0]
    states = in_any_split(lambda: RandomSample(size, seed, maps.shape[1]), scan)
    same(states)
    order = np.argsort(hash_indices(np.arange(len(maps)), seed))[:size]
    np.testing.assert_array_equal(states[0]["sample.image"], order)
    flat = maps.reshape(*maps.shape[:2], -1)[order]
    np.testing.assert_array_equal(states[0]["sample.peak"], flat.max(2))
    np.testing.assert_array_equal(states[0]["sample.position"], flat.argmax(2))
    np.testing.assert_array_equal(
        states[0]["sample.mean"], flat.astype(np.float64).mean(2).astype(np.float32)
    )


@settings(max_examples=30)
@given(scans(ODD), st.booleans())
def test_a_layer_s_summary_comes_back_from_its_state(scan: Any, labeled: bool) -> None:
    summary_settings = SummarySettings(top=2, sample=4, pooled=True, labeled=labeled)
    summary = LayerSummary(summary_settings, scan[0].shape[1])
    images = np.arange(len(scan[0]))
    summary.update(
        compute_batch_stats(images, torch.from_numpy(scan[0])), images % 2 if labeled else None
    )
    same([summary.state(), LayerSummary.from_state(summary_settings, summary.state()).state()])
    empty = LayerSummary(summary_settings, scan[0].shape[1])
    empty.merge(summary)
    same([summary.state(), empty.state()])


def test_a_limit_only_spares_the_shards_their_own_samples() -> None:
    maps = np.random.default_rng(0).normal(0, 1, (300, 2, 3, 3)).astype(np.float32)
    draws = hash_indices(np.arange(300), 0)
    summary_settings = SummarySettings(sample=10)
    limited = replace(summary_settings, sample_limit=int(np.sort(draws)[20]))
    for batch, rows in ((np.arange(300), 10), (np.arange(30), 10)):
        stats = compute_batch_stats(batch, torch.from_numpy(maps[batch]))
        states = []
        for chosen in (summary_settings, limited):
            summary = LayerSummary(chosen, 2)
            summary.update(stats, None)
            states.append(summary.state()["sample.image"])
        if len(batch) == 300:
            np.testing.assert_array_equal(*states)
        else:
            assert len(states[0]) == rows > len(states[1])


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 7), (5, 3, 2, 4, 3)])
def test_features_lines_and_volumes_have_positions_too(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stats = compute_batch_stats(np.arange(5), values)
    flat = values.reshape(5, 3, -1)
    assert stats.positions == flat.shape[2]
    np.testing.assert_array_equal(stats.peak, flat.amax(2))
    rows, channels = np.divmod(np.arange(15), 3)
    np.testing.assert_array_equal(stats.extreme_positions(rows, channels), flat.argmax(2).flatten())


def test_means_are_rounded_once() -> None:
    """A float32 running sum would lose the small values beside the large one."""
    values = torch.full((1, 1, 100, 100), 1e-3)
    values[0, 0, 0, 0] = 1e5
    exact = np.float32(values.double().mean().item())
    assert compute_batch_stats(np.arange(1), values).mean[0, 0] == exact
