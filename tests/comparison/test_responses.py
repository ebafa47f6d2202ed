"""Responses against untouched copies of the networks, and similarity against its definition."""

from __future__ import annotations

import copy
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._errors import UsageError

CLASSES = ["ant", "bee", "cat"]


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    return made.eval()


def load(made: nn.Module, classes: list[str] = CLASSES) -> Any:
    return cs.load(made, preprocess=cs.Preprocess(size=(12, 12)), classes=classes)


def pictures(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(9).integers(0, 255, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


def batch_of(images: list[Image.Image]) -> Tensor:
    """What the networks are given, made without convscope: pixels of [0, 1], channels first."""
    stacked = np.stack([np.asarray(one, np.float32) / 255 for one in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def centered_cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Linear CKA by the kernels of Kornblith et al., equation 3: HSIC(K, L) over both norms."""
    n = x.shape[1]
    centering = np.eye(n) - 1 / n
    left, right = (centering @ (one.T @ one) @ centering for one in (x, y))
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


@pytest.fixture(scope="module")
def both() -> tuple[Any, dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """A comparison of two random networks, and the pooled maps of untouched copies."""
    first, second = network(1), network(2)
    pooled: list[dict[str, NDArray[np.float64]]] = []
    for made in (copy.deepcopy(first), copy.deepcopy(second)):
        values, x = {}, batch_of(pictures(20))
        with torch.no_grad():
            for k, layer in enumerate(made):
                x = layer(x)
                if k in (0, 2):
                    values[str(k)] = x.double().mean((2, 3)).numpy().T.copy()
        pooled.append(values)
    found = cs.compare(load(first), load(second), pictures(20), ["0", "2"])
    return found, pooled[0], pooled[1]


def test_responses_are_those_of_untouched_copies(both: Any) -> None:
    found, first, second = both
    for side, expected in ((found.a, first), (found.b, second)):
        for path in ("0", "2"):
            np.testing.assert_allclose(side.pooled[path], expected[path], atol=2e-6)


def test_probabilities_are_those_of_untouched_copies() -> None:
    first, second = network(3), network(4)
    plain = copy.deepcopy(second)
    found = cs.compare(load(first), load(second), pictures(5), ["0"])
    with torch.no_grad():
        expected = plain(batch_of(pictures(5))).softmax(1).numpy()
    np.testing.assert_allclose(found.b.probabilities, expected, atol=1e-6)
    for row in range(5):
        assert found.b.prediction(row) == CLASSES[int(expected[row].argmax())]
        assert found.b.confidence(row) == pytest.approx(float(expected[row].max()), abs=1e-6)


def test_cka_is_that_of_its_definition(both: Any) -> None:
    found, first, second = both
    expected = [[centered_cka(x, y) for y in second.values()] for x in first.values()]
    np.testing.assert_allclose(found.cka, expected, atol=1e-4)


def test_cka_is_symmetric(both: Any) -> None:
    found = both[0]
    turned = cs.compare(found.b.model, found.a.model, pictures(20), ["0", "2"])
    np.testing.assert_allclose(turned.cka, found.cka.T, atol=1e-9)


def test_each_channel_matches_one_of_the_other_network(both: Any) -> None:
    """As pairs whose correlations have the largest sum: by brute force over permutations."""
    found, first, second = both
    pair = found.pairs[1]
    table = np.corrcoef(first["2"], second["2"])[:4, 4:]
    best = max(sum(table[k, p[k]] for k in range(4)) for p in permutations(range(4)))
    assert sorted(pair.match.left.tolist()) == sorted(pair.match.right.tolist()) == [0, 1, 2, 3]
    assert pair.match.correlations.sum() == pytest.approx(best, abs=1e-4)


def test_change_is_the_largest_difference_over_the_largest_value(both: Any) -> None:
    found, first, second = both
    scale = max(np.abs(first["0"]).max(), np.abs(second["0"]).max())
    expected = np.abs(first["0"] - second["0"]).max(1) / scale
    np.testing.assert_allclose(found.pairs[0].change, expected, atol=1e-5)
    assert found.pairs[0].changed_channels == np.argsort(-expected).tolist()


def test_rounding_is_no_change() -> None:
    first = network(5)
    second = copy.deepcopy(first)
    with torch.no_grad():
        second[0].weight[2] *= 1 + 1e-7
        second[0].bias[4] += 0.01
    found = cs.compare(load(first), load(second), pictures(6), ["0"])
    assert found.pairs[0].changed_channels == [4]


@pytest.mark.parametrize(("count", "similar", "matched"), [(2, False, False), (3, False, True)])
def test_few_images_give_neither_cka_nor_matches(count: int, similar: bool, matched: bool) -> None:
    found = cs.compare(load(network(1)), load(network(2)), pictures(count), ["0"])
    assert (found.cka is not None) == similar
    assert (found.pairs[0].match is not None) == matched
    assert found.to_dict()["cka"] is None


class Labeled(list[Any]):
    classes = CLASSES


def test_labels_of_other_classes_are_not_counted() -> None:
    data = Labeled((one, k % 3) for k, one in enumerate(pictures(9)))
    same = cs.compare(load(network(1)), load(network(2)), data, ["0"])
    assert same.labels == tuple(CLASSES[k % 3] for k in range(9))
    assert "accuracy" in same.sentences()[0]
    other = cs.compare(load(network(1)), load(network(2), ["x", "y", "z"]), data, ["0"])
    assert other.labels == ()
    assert "accuracy" not in other.sentences()[0]


def test_the_dictionary_is_json_and_names_the_images_that_changed(both: Any) -> None:
    found = both[0]
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["models"] == list(found.names)
    assert len(told["changed"]) == len(found.changed)
    for one, row in zip(told["changed"], found.changed, strict=True):
        assert (one["a"], one["b"]) == (found.a.prediction(row), found.b.prediction(row))
        assert one["a"] != one["b"]
    assert np.shape(told["cka"]["values"]) == (2, 2)
    match = told["pairs"][0]["match"]
    assert sorted(match) == list(range(6))


def test_a_folder_gets_the_layers_and_the_images_that_changed_most(
    both: Any, tmp_path: Path
) -> None:
    found = both[0]
    files = found.save(tmp_path / "out")
    change = {row: abs(found.a.confidence(row) - found.b.confidence(row)) for row in found.changed}
    rows = sorted(change, key=lambda row: -change[row])[:3] or [0]
    assert [path.name for path in files] == ["comparison.png", *(f"maps-{row}.png" for row in rows)]
    assert all(path.stat().st_size > 1000 for path in files)
    (single,) = found.save(tmp_path / "one.svg", theme="dark")
    assert single.read_text().startswith("<?xml")


def test_progress_is_told_for_each_network() -> None:
    seen: list[tuple[int, int]] = []
    cs.compare(
        load(network(1)),
        load(network(2)),
        pictures(7),
        ["0"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen.count((7, 7)) == 2


def test_no_readable_image_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UsageError) as caught:
        cs.compare(load(network(1)), load(network(2)), tmp_path, ["0"])
    assert "\n" not in str(caught.value)


def test_a_figure_without_maps_says_why() -> None:
    vectors = cs.compare(load(network(1)), load(network(2)), pictures(1)[0], ["6"])
    assert "no layer compared has maps in both networks" in vectors.maps().description
