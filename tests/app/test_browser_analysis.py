"""Comparing, explaining, measuring, scanning and saving, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import visit
from PIL import Image
from web_bench import loaded

import convscope as cs
from convscope._app.asgi import make_app
from convscope._app.server import make_session
from convscope._app.session import Session
from convscope._plot import colors

FIRST = "dark/1.png"


def maps_of(photos: Path, path: str, seed: int = 0, name: str = FIRST) -> Any:
    return cs.feature_maps(loaded(seed), str(photos / name), layers=[path])[path].values


def inks(values: Any, low: float, high: float, cmap: str = "viridis") -> Any:
    """The colors that values have on a scale, as ``convscope._plot`` paints them."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return colors.table(cmap)[np.rint(share * 255).astype(int)].astype(int)


def test_two_layers_of_one_shape_are_subtracted(chromium, address, pair, photos):
    a, b = maps_of(photos, "0"), maps_of(photos, "1")
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    first = int(np.abs(a.mean((1, 2)) - b.mean((1, 2))).argmax())
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/compare/layer/0?compare=layers&layer_b=1", pair))
        page.wait_for_selector("a.cell")
        assert page.locator("a.cell b").first.inner_text() == str(first)
        drawn = visit.pixels(page, "main .grid canvas")[:24, :, :3].astype(int)
        gap = 2  # 6 % of 32
        parts = [drawn[:, k * (32 + gap) : k * (32 + gap) + 32] for k in range(3)]
        for part, values in zip(parts, (a[first], b[first]), strict=False):
            assert np.abs(part - inks(values, low, high)).max() <= 8
        most = high - low
        assert np.abs(parts[2] - inks(a[first] - b[first], -most, most, "signed")).max() <= 12
        assert f"{high:.4g}" in page.inner_text(".legend")


def test_layers_of_different_shapes_stand_side_by_side_on_one_scale(
    chromium, address, pair, photos
):
    a, b = maps_of(photos, "0"), maps_of(photos, "3")
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/compare/layer/0?compare=layers&layer_b=3", pair))
        page.wait_for_selector("a.cell")
        said = page.inner_text("#no-difference")
        assert "A is 6×24×32 and B is 8×5×7" in said
        assert "no difference to draw" in said
        for k, values in enumerate((a, b), 1):
            _, height, width = values.shape
            drawn = visit.pixels(page, f".side-by-side section:nth-child({k}) canvas")
            shown = drawn[:height, :width, :3].astype(int)
            assert np.abs(shown - inks(values[0], low, high)).max() <= 8


def test_two_networks_are_compared(chromium, address, pair, photos):
    a, b = maps_of(photos, "3").mean((1, 2)), maps_of(photos, "3", seed=1).mean((1, 2))
    order = np.argsort(-np.abs(a - b), kind="stable")
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/compare/layer/3", pair))
        page.click("text=Models")
        page.wait_for_selector(".comparison")
        page.wait_for_selector("[role=grid][aria-label*='(second)'] a.cell")
        assert "compare=models" in page.url
        told = [cell.get_attribute("aria-label") for cell in page.locator("a.cell").all()]
        for text, c in zip(told, order, strict=True):
            assert text.startswith(f"Channel {c}: mean ")
            found = [
                float(part.replace("−", "-").split(" ")[0])
                for part in text.split("mean ")[1].replace(" on A, ", "|").split("|")
            ]
            assert found == pytest.approx([a[c], b[c]], rel=2e-3)
        answers = page.locator(".comparison figcaption").all_inner_texts()
        for seed, text in enumerate(answers):
            best = loaded(seed).predict(str(photos / FIRST), top=1)[0]
            assert best[0] in text
        page.click("text=Images")
        visit.until(page, "!location.hash.includes('compare=')")


def test_attribution_is_a_map_over_the_image_for_a_chosen_class(chromium, address, pair, photos):
    pytest.importorskip("captum")
    found = cs.attribute(loaded(), str(photos / FIRST), "dog", method="gradcam").maps[0].values
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/", pair))
        page.click("#attribution-link")
        page.wait_for_selector(".attribution h2")
        assert "tab=attribution" in page.url
        page.select_option(
            "#target",
            label=next(
                text for text in page.locator("#target option").all_inner_texts() if "dog" in text
            ),
        )
        visit.until(
            page,
            "document.querySelector('.attribution h2')?.textContent === 'class dog'"
            " || document.querySelector('.attribution h2')?.textContent === 'dog'",
        )
        assert "target=1" in page.url
        drawn = visit.pixels(page, ".attribution canvas").astype(int)
        assert drawn.shape[:2] == found.shape
        strong = np.abs(found) > 0.3 * np.abs(found).max()
        redder = drawn[..., 0] > drawn[..., 2]
        np.testing.assert_array_equal(redder[strong], found[strong] > 0)
        alpha = np.rint(230 * np.abs(found) / np.abs(found).max())
        assert np.abs(drawn[..., 3] - alpha).max() <= 1
        page.select_option("#method", "occlusion")  # a job
        visit.until(
            page, "document.querySelector('.attribution .words').innerText.includes('Occlusion:')"
        )
        whole = page.url
        page.goto("about:blank")
        visit.open_view(page, whole)
        visit.until(
            page, "document.querySelector('.attribution .words').innerText.includes('Occlusion:')"
        )
        assert page.evaluate(
            "document.querySelector('#target').selectedOptions[0].text"
        ).startswith("dog")


def test_a_unit_is_explained_and_measured_beside_its_map(chromium, address, pair, photos):
    pytest.importorskip("captum")
    felt = cs.sensitivity(loaded(), "shapes,count=32,size=32", "3", first=32)["3"]
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/3/channel/5?target=unit", pair))
        page.locator("#target").scroll_into_view_if_needed()
        page.wait_for_selector(".attribution h2")
        assert page.inner_text(".attribution h2") == "3:5"
        page.click("#measure")
        page.wait_for_selector("section:has-text('Sensitivity') .bars")
        text = page.inner_text("section.panel:has(h2:text-is('Sensitivity'))")
        for name, value in felt.rows()[5]["invariance"].items():
            assert f"{name}\n" in text
            assert ("–" if value is None else f"{value:.2f}") in text
        assert "32 drawn shapes" in text


def test_a_view_is_saved_as_png_svg_and_npz(chromium, address, pair, photos, tmp_path):
    values = maps_of(photos, "1")
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/1", pair))
        page.wait_for_selector("a.cell")
        files = {}
        for kind in ("png", "svg", "npz"):
            page.click("#save")
            with page.expect_download() as saved:
                page.click(f"#save-{kind}")
            files[kind] = tmp_path / saved.value.suggested_filename
            saved.value.save_as(files[kind])
            assert files[kind].name == f"dark-1.1.{kind}"
        with Image.open(files["png"]) as picture:
            assert picture.width > 400
        drawing = files["svg"].read_text()
        assert drawing.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert "dark-1" in drawing
        assert "each channel's own minimum to maximum" in drawing
        assert ">2 inactive</text>" in drawing
        with np.load(files["npz"]) as found:
            np.testing.assert_array_equal(found["maps"], values)
        visit.open_view(page, address, visit.of("#/layer/1/channel/3", pair))
        with page.expect_download() as saved:
            page.keyboard.press("d")
        saved.value.save_as(tmp_path / "one.npz")
        with np.load(tmp_path / "one.npz") as found:
            np.testing.assert_array_equal(found["maps"], values[3])
        visit.open_view(page, address, visit.of("#/compare/layer/0?compare=layers&layer_b=1", pair))
        page.wait_for_selector("a.cell")
        with page.expect_download() as saved:
            page.keyboard.press("d")
        saved.value.save_as(tmp_path / "pair.npz")
        with np.load(tmp_path / "pair.npz") as found:
            np.testing.assert_array_equal(found["difference"], maps_of(photos, "0") - values)


def test_channels_are_sorted_by_similarity_to_one(chromium, address, pair, photos):
    values = maps_of(photos, "0")
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/0/channel/4", pair))
        page.click("#similar-channels")
        page.wait_for_selector("a.cell")
        visit.settled(page)
        likeness = np.corrcoef(values.reshape(len(values), -1))[4]
        order = [int(k) for k in np.argsort(-likeness, kind="stable")]
        assert [int(text) for text in page.locator("a.cell b").all_inner_texts()] == order
        shown = [
            float(text.replace("−", "-"))
            for text in page.locator("a.cell .label span").all_inner_texts()
        ]
        assert shown == pytest.approx([likeness[k] for k in order], abs=0.01)  # from 8 bits
        page.fill("#similar", "1")
        page.keyboard.press("Enter")
        visit.until(page, "document.querySelector('a.cell b').textContent === '1'")
        assert "similar=1" in page.url


def test_a_scan_is_begun_and_followed_in_the_browser(chromium, photos, tmp_path):
    session = make_session(loaded(), data=str(photos))
    with visit.served(make_app(session)) as address, visit.page(chromium) as page:
        visit.put(address, photos / FIRST)
        visit.open_view(page, address, "#/health")
        assert "24 images" in page.inner_text(".scan")
        assert not visit.violations(page)
        page.click("#scan")
        page.wait_for_selector("#scanned")
        assert "24 images were scanned" in page.inner_text(".scan")
        page.click("#scanned")
        page.wait_for_selector("article.finding")
        visit.open_view(page, address, "#/layer/0?tab=examples")
        page.wait_for_selector("a.cell.painted")
    expected = cs.scan(loaded(), photos, tmp_path / "atlas")
    assert session.atlas is not None
    for layer in expected.layers:
        np.testing.assert_array_equal(session.atlas.layer(layer.path).mean, layer.mean)


def test_without_a_second_network_it_is_said_how_to_give_one(chromium, photos):
    with visit.served(make_app(Session(loaded()))) as address, visit.page(chromium) as page:
        visit.put(address, photos / FIRST)
        visit.open_view(page, address, "#/compare?compare=models")
        assert "convscope serve -m A -m B" in page.inner_text("main")


def tab_to(page: Any, selector: str) -> None:
    """Walk there with the Tab key alone."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement?.matches(s) ?? false", selector):
            return
    raise AssertionError(f"Tab never comes to {selector}")


def test_comparing_explaining_and_saving_by_keyboard_alone(chromium, address, pair):
    pytest.importorskip("captum")
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/1", pair))
        press = page.keyboard.press
        press("w")
        page.wait_for_selector(".attribution h2")
        assert "tab=attribution" in page.url
        tab_to(page, "#method")
        press("ArrowDown")  # to the next method
        press("ArrowDown")
        visit.until(page, "location.hash.includes('method=gradient_x_input')")
        visit.until(
            page, "/gradient × input:/i.test(document.querySelector('.attribution').innerText)"
        )
        press("Escape")  # letters choose in a list: out of it first
        press("b")
        visit.until(page, "document.querySelector('main h1').textContent === 'Compare'")
        page.wait_for_selector("a.cell")
        tab_to(page, ".segments[aria-label='What to compare'] button:nth-child(2)")
        press("Enter")
        visit.until(page, "location.hash.includes('compare=layers')")
        page.wait_for_selector("#swap")
        tab_to(page, "#swap")
        press("Enter")
        visit.until(page, "location.hash.includes('layer_b=')")
        visit.settled(page)
        assert page.evaluate("document.activeElement.id") == "swap"  # one stays where one was
        page.wait_for_selector("a.cell")
        press("g")
        assert page.evaluate("document.activeElement.dataset.k") == "0"
        tab_to(page, "#save")
        press("Enter")
        page.wait_for_selector("dialog[open]")
        assert not visit.violations(page)
        tab_to(page, "#save-svg")
        with page.expect_download() as saved:
            press("Enter")
        assert saved.value.suggested_filename.endswith(".svg")
        assert not page.locator("dialog[open]").count()


def test_the_sheet_of_keys_names_every_key_that_does_something(chromium, address, pair):
    import re

    static = Path(cs.__file__).parent / "_app" / "static"
    source = (static / "keys.js").read_text()
    table = source.split("const KEYS = {")[1].split("\n};")[0]
    keys = set(re.findall(r"""(?:^|[{,]\s*|\s)(?:"(.)"|([a-zA-Z])):\s*(?:\(|\w)""", table))
    known = {a or b for a, b in keys}
    assert {"?", "[", "b", "w", "P", "d", "p"} <= known
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/", pair))
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        listed = set(page.locator("dialog kbd").all_inner_texts())
    assert known - listed == set()
