"""The app in a real browser, in front of a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import visit
from PIL import Image
from web_bench import loaded

import convscope as cs
from convscope._app import page as files
from convscope._plot import colors

STATIC = Path(cs.__file__).parent / "_app" / "static"
SCREENS = [
    "#/",
    "#/layer/1",
    "#/layer/0?tab=filters",
    "#/layer/1?tab=examples",
    "#/layer/1?tab=optimized",
    "#/layer/7?range=layer",
    "#/layer/1/channel/3/position/4,5",
    "#/layer/1/channel/2",
    "#/compare/layer/1",
    "#/compare/layer/0?compare=layers",
    "#/compare/layer/0?compare=layers&layer_b=3",
    "#/compare/layer/3?compare=models",
    "#/health",
    "#/?tab=attribution",
    "#/layer/nothing",
    "#/layer/1?sort=similarity&similar=3",
]


def dead_channels(photos: Path) -> list[int]:
    values = cs.feature_maps(loaded(), str(photos / "dark/1.png"), layers=["1"])["1"].values
    dead = [c for c in range(len(values)) if not values[c].any()]
    assert 2 in dead
    assert len(dead) < len(values)
    return dead


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_on_any_screen(chromium, address, pair, theme):
    with visit.page(chromium, theme=theme) as page:
        found = {}
        for view in SCREENS:
            visit.open_view(page, address, visit.of(view, pair))
            if against := visit.violations(page):
                found[view] = against
        assert not found, json.dumps(found, indent=1)


def test_axe_finds_no_violation_on_a_phone_or_in_the_sheet_of_keys(chromium, address, pair):
    with visit.page(chromium, visit.PHONE) as page:
        for view in ("#/layer/1", "#/layer/1/channel/3/position/4,5"):
            visit.open_view(page, address, visit.of(view, pair))
            assert not visit.violations(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#menu")
        page.wait_for_timeout(300)
        assert page.locator("#tree a").first.is_visible()
        assert not visit.violations(page)
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/", pair))
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        assert not visit.violations(page)


def test_a_whole_visit_by_keyboard_alone(chromium, address, pair, photos):
    dead = dead_channels(photos)
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/", pair))
        press = page.keyboard.press
        press("l")  # to the list of layers: the third of them is the first pooling
        press("ArrowDown")
        press("Enter")
        visit.until(page, "location.hash.startsWith('#/layer/1')")
        visit.settled(page)
        page.wait_for_selector(".grid a.cell")
        press("g")
        for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
            press(key)
        assert page.evaluate("document.activeElement.dataset.k") == "3"
        press("Enter")
        page.wait_for_selector("#map")
        assert "/channel/3" in page.url
        press("g")
        press("ArrowUp")
        press("ArrowLeft")
        page.wait_for_selector("#value")
        assert "/position/" in page.url
        for key, say in (("m", "cmap=magma"), ("n", "range=layer")):
            press(key)
            assert say in page.url
        press("Escape")
        assert "/position/" not in page.url
        press("Escape")
        page.wait_for_selector("[role=tablist]")
        press("x")
        visit.until(page, f"document.querySelectorAll('a.cell').length === {len(dead)}")
        labels = [cell.get_attribute("aria-label") for cell in page.locator("a.cell").all()]
        assert labels == [f"Channel {c}: 0 to 0, inactive on this image" for c in dead]
        press("x")
        press("/")
        page.keyboard.type("1, 4-5")
        visit.until(page, "document.querySelectorAll('a.cell').length === 3")
        press("Escape")
        press("]")
        visit.until(page, "location.hash.startsWith('#/layer/2')")
        visit.settled(page)
        press(".")
        visit.until(page, f"!location.hash.includes('{pair[0]['id']}')")
        visit.settled(page)
        press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        press("h")
        visit.until(page, "document.querySelector('main h1').textContent === 'Channel health'")


def test_the_value_under_the_pointer_is_that_of_feature_maps(chromium, address, pair, photos):
    maps = cs.feature_maps(loaded(), str(photos / "dark/1.png"), layers=["0", "3"])
    field = loaded().receptive_fields()["3"]
    with visit.page(chromium) as page:
        for path, channel, places in (("0", 3, [(0, 0), (7, 20), (23, 31)]), ("3", 5, [(2, 3)])):
            values = maps[path].values[channel]
            visit.open_view(page, address, visit.of(f"#/layer/{path}/channel/{channel}", pair))
            box = page.locator("#map").bounding_box()
            for y, x in places:
                at = ((x + 0.5) / values.shape[1], (y + 0.5) / values.shape[0])
                page.mouse.move(box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"])
                visit.until(
                    page, f"document.querySelector('#position')?.textContent === '{y}, {x}'"
                )
                found = float(page.get_attribute("#value", "data-value"))
                assert found == pytest.approx(float(values[y, x]), rel=1e-6, abs=1e-7)
        drawn = [int(part) for part in page.get_attribute("#field", "data-box").split(",")]
        assert tuple(drawn) == field.box(2, 3)
        rectangle = page.locator("#input-panel .plate svg rect.field-box").first
        top, left, bottom, right = field.box(2, 3)
        page.wait_for_selector("#input-panel .plate svg rect.field-box", state="attached")
        assert [float(rectangle.get_attribute(name)) for name in ("y", "x", "height", "width")] == [
            top,
            left,
            bottom - top,
            right - left,
        ]


def test_a_views_address_opened_afresh_shows_the_same_view(chromium, address, pair):
    views = (
        "#/layer/1?tab=maps&range=layer&cmap=magma&sort=peak&find=0-4",
        "#/layer/1/channel/3/position/4,5?range=fixed&cmap=signed&span=-1,2",
    )
    for view in views:
        with visit.page(chromium) as page:
            visit.open_view(page, address, visit.of(view, pair))
            page.wait_for_timeout(400)
            first = (page.inner_text("main"), visit.pixels(page, "main canvas"), page.url)
        with visit.page(chromium) as page:
            visit.open_view(page, first[2])
            page.wait_for_timeout(400)
            assert page.inner_text("main") == first[0]
            np.testing.assert_array_equal(visit.pixels(page, "main canvas"), first[1])


def test_channels_are_sorted_by_attribution_and_saved(chromium, address, pair, tmp_path):
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/3?sort=attribution", pair))
        page.wait_for_selector("a.cell")
        asked = f"{address}api/inputs/{pair[0]['id']}/attribution/3"
        values = page.request.get(asked).json()["channels"]
        order = sorted(range(len(values)), key=lambda c: (-values[c], c))
        assert [int(text) for text in page.locator("a.cell b").all_inner_texts()] == order
        with page.expect_download() as saved:
            page.keyboard.press("p")
        saved.value.save_as(tmp_path / "saved.png")
        assert saved.value.suggested_filename == "dark-1.3.png"
        with Image.open(tmp_path / "saved.png") as picture:
            assert picture.width > 400


def test_an_inactive_channel_looks_inactive(chromium, address, pair):
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/1?find=2", pair))
        page.wait_for_selector("a.cell.flat")
        cell = visit.pixels(page, "main .grid canvas")[:24, :32]
        assert len(np.unique(cell.reshape(-1, 4), axis=0)) == 1, "no texture"
        inks = {tuple(colors.table(name)[k]) for name in colors.TABLES for k in (0, 128, 255)}
        assert tuple(cell[0, 0, :3]) not in inks, "and no value's color"
        assert page.locator(".cell .tag").inner_text() == "inactive"
        visit.open_view(page, address, visit.of("#/layer/1/channel/2", pair))
        assert page.locator("#map .constant").inner_text() == "inactive on this image"
        assert len(np.unique(visit.pixels(page, "#map canvas").reshape(-1, 4), axis=0)) == 1


def test_maps_are_drawn_with_the_colors_that_figures_have(chromium, address, pair, photos):
    values = cs.feature_maps(loaded(), str(photos / "dark/1.png"), layers=["0"])["0"].values[4]
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/0?find=4", pair))
        page.wait_for_selector("a.cell")
        drawn = visit.pixels(page, "main .grid canvas")[:24, :32, :3]
    share = (values - values.min()) / (values.max() - values.min())
    expected = colors.table("viridis")[np.rint(share * 255).astype(int)]
    assert np.abs(drawn.astype(int) - expected).max() <= 8  # two levels of 255 apart at most


def test_an_image_is_dropped_or_chosen(chromium, address, pair, tmp_path):
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/1", pair))
        page.set_input_files("#file", tmp_path / "red.png")
        visit.until(page, "document.querySelector('#input-panel h2').textContent === 'red.png'")
        assert pair[0]["id"] not in page.url


def test_a_unit_is_optimized_and_shown(chromium, address, pair):
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/3/channel/1", pair))
        page.click("#optimize")
        page.wait_for_selector("img.shot", timeout=60_000)
        page.wait_for_selector(".optimized details", timeout=60_000)
        assert page.evaluate("document.querySelector('img.shot').naturalWidth") > 0


def test_an_unknown_layer_says_what_to_do(chromium, address, pair):
    with visit.page(chromium) as page:
        visit.open_view(page, address, visit.of("#/layer/nothing", pair))
        page.wait_for_selector(".notice.error")
        assert 'No layer "nothing"' in page.inner_text("main")


def test_an_exported_page_works_from_a_disk_with_no_network(chromium, atlas, photos, tmp_path):
    out = tmp_path / "microscope.html"
    cs.export(atlas, out, model=loaded(), images=[photos / "dark/1.png", photos / "light/2.png"])
    with visit.page(chromium, offline=True) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        for view in ("#/", *SCREENS[1:]):
            visit.open_view(page, out.as_uri(), view)
            assert page.inner_text("main").strip()
        visit.open_view(page, out.as_uri(), "#/layer/1/channel/3/position/4,5")
        assert page.inner_text("#value").startswith("≈")
        assert page.locator("#input-panel img").first.evaluate("image => image.naturalWidth") > 0
        assert "running model" in page.inner_text("main")
        asked = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
        assert asked in ([], ["about:blank"] * len(asked))


def test_the_color_tables_are_those_of_figures(chromium, address):
    with visit.page(chromium) as page:
        visit.open_view(page, address)
        for name, table in colors.TABLES.items():
            found = page.evaluate(
                "async (name) => Array.from((await import('convscope/colors')).table(name))", name
            )
            np.testing.assert_array_equal(np.asarray(found).reshape(256, 3), table)


def test_the_app_is_small_and_asks_nobody_else():
    scripts = sorted(STATIC.glob("*.js"))
    packed = sum(len(files.compressed(path.name)) for path in scripts)
    assert 10_000 < packed <= 60_000
    mapped = json.loads(
        (STATIC / "index.html")
        .read_text()
        .split('<script type="importmap">')[1]
        .split("</script>")[0]
    )["imports"]
    assert sorted(mapped.values()) == sorted(f"./static/{path.name}" for path in scripts)
    for path in [*scripts, STATIC / "style.css"]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text, path.name


def test_lines_of_scripts_are_short():
    long = [
        f"{path.name}:{number}"
        for path in sorted(STATIC.glob("*.js"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 110
    ]
    assert not long


def test_scripts_import_each_other_in_no_circle():
    imports = {
        path.stem: set(re.findall(r'from "convscope/(\w+)"', path.read_text(encoding="utf-8")))
        for path in STATIC.glob("*.js")
    }
    while leaves := [name for name, needed in imports.items() if not needed & imports.keys()]:
        for name in leaves:
            del imports[name]
    assert not imports
