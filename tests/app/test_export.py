"""The microscope as one file: what is in it, how large it is, and that it asks nobody."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from web_bench import client_of, loaded, png, wait

import convscope as cs
from convscope._app import ExportedPage, page
from convscope._app.inputs import read_input
from convscope._app.session import Session
from convscope._cli import main
from convscope._errors import UsageError


def entries(text: str) -> dict[str, bytes]:
    """What a page carries, by address, read as the app reads it."""
    listed = re.search(r'<script type="application/json" id="convscope-index">(.*?)</script>', text)
    assert listed
    found = {}
    for path, about in json.loads(listed[1])["entries"].items():
        block = re.search(f'<script type="text/plain" id="convscope-{about["block"]}">(.*?)<', text)
        assert block
        data = base64.b64decode(block[1])
        found[path] = gzip.decompress(data) if about["gzip"] else data
    return found


def picture() -> Image.Image:
    return Image.open(io.BytesIO(png()))


@pytest.fixture(scope="module")
def made(atlas: cs.Atlas) -> ExportedPage:
    return cs.export(atlas, model=loaded(), images=[picture()])


def test_it_carries_what_the_server_would_answer(made: ExportedPage, atlas: cs.Atlas) -> None:
    found = entries(made.html)
    with client_of(Session(loaded(), atlas)) as client:
        wait(client)
        client.post("/api/inputs?name=image", content=png())
        for path, body in found.items():
            if path not in ("api/model", "api/inputs"):
                assert client.get(f"/{path}").content == body, path
    about = json.loads(found["api/model"])
    assert about["exported"]
    assert not about["live"]
    assert not any(about["features"][what] for what in ("upload", "exact", "jobs", "attribution"))
    (slide,) = json.loads(found["api/inputs"])["inputs"]
    for index in range(8):
        assert f"api/inputs/{slide['id']}/maps/{index}?max_side=56" in found
    for channel in range(6):
        assert f"api/atlas/layers/1/channels/{channel}" in found
        assert f"api/atlas/layers/1/channels/{channel}/sprite?list=top.mean&view=crop" in found
    assert made.left_out == ()
    assert about["atlas"]["dataset"] == Path(atlas.dataset).name  # a page is handed on
    assert not any(atlas.dataset.encode() in body for body in found.values())


def test_it_names_no_file_and_no_host(made: ExportedPage) -> None:
    outside = re.sub(r"data:[\w/+-]+;base64,[\w+/=]+", "data:", made.html)
    outside = re.sub(
        r'<script type="(text/plain|application/json)".*?</script>', "", outside, flags=re.DOTALL
    )
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", outside)
    assert "@import" not in outside
    assert 'from "./' not in outside


def test_all_modules_are_in_the_map_and_import_by_its_names(made: ExportedPage) -> None:
    mapped = json.loads(re.search(r'<script type="importmap">(.*?)</script>', made.html, re.S)[1])  # type: ignore[index]
    scripts = {name for name in page.static_files() if name.endswith(".js")}
    assert len(mapped["imports"]) == len(scripts)
    for target in mapped["imports"].values():
        source = base64.b64decode(target.partition(",")[2]).decode()
        names = re.findall(r"""(?:from|import)\s*\(?\s*["']([\w./-]+)["']""", source)
        assert set(names) <= set(mapped["imports"])


def test_an_atlas_alone_is_a_page(atlas: cs.Atlas) -> None:
    found = entries(cs.export(atlas).html)
    assert json.loads(found["api/model"])["state"] == "none"
    assert "api/atlas/health" in found
    assert not any("/maps/" in path for path in found)


def test_a_page_stays_below_its_bound_and_says_what_it_left_out(
    made: ExportedPage, atlas: cs.Atlas
) -> None:
    bound = made.size - 30_000
    small = cs.export(atlas, model=loaded(), images=[picture()], max_bytes=bound)
    assert small.size <= bound
    assert small.left_out
    assert "left out to stay small" in small.sentence()
    with pytest.raises(UsageError, match="has no room for this"):
        cs.export(atlas, model=loaded(), images=[picture()], max_bytes=50_000)


def test_a_name_cannot_break_out_of_the_page(atlas: cs.Atlas, tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script>"
    path = tmp_path / "a.png"
    path.write_bytes(png())
    model = loaded()
    model.name = nasty
    made = cs.export(atlas, model=model, images=[path])
    assert nasty not in made.html
    assert json.loads(entries(made.html)["api/model"])["name"] == nasty


def test_what_cannot_be_exported_is_said(atlas: cs.Atlas) -> None:
    with pytest.raises(UsageError, match="neither was given"):
        cs.export()
    with pytest.raises(UsageError, match="Images need the network"):
        cs.export(atlas, images=[picture()])
    with pytest.raises(UsageError, match="A model alone shows nothing"):
        cs.export(model=loaded())


def test_in_a_notebook_it_is_a_frame_of_its_own() -> None:
    shown = cs.show(loaded(), picture())
    frame = shown._repr_html_()
    source = re.search(r'srcdoc="([^"]*)"', frame)
    assert source
    assert html.unescape(source[1]) == shown.html
    assert len(entries(shown.html)) > 20


def run(*words: str) -> None:
    """The command line, in this process."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert not stop.value.code


def test_the_command_writes_it(
    atlas: cs.Atlas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "m.html"
    run("export", str(atlas.folder), "-o", str(out))
    assert "MB, opens from disk" in capsys.readouterr().out
    assert entries(out.read_text())


def test_the_command_refuses_what_is_no_page(
    atlas: cs.Atlas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["-o", "m.png"], "An export is an HTML page, and 'm.png' is not. Try 'm.html'"),
        (["--image", "a.png", "-o", "m.html"], "Give it: -m MODEL"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["export", str(atlas.folder), *words])
        assert stop.value.code == 1
        assert said in capsys.readouterr().err


def test_serve_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(cs.ConvscopeError, match=r"The app needs uvicorn. .*convscope\[app\]"):
        cs.serve("demo")


def test_served_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything but the waiting."""
    uvicorn: Any = pytest.importorskip("uvicorn")
    ran = []
    monkeypatch.setattr("convscope._app.server.limit_threads", lambda: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: ran.append(sockets))
    run("serve", "--port", "0")
    assert re.search(r"convscope is running at http://127\.0\.0\.1:\d+/", capsys.readouterr().out)
    assert len(ran) == 1


def test_arrays_are_shown_like_images(tmp_path: Path) -> None:
    """Many bands, given as an array or as a file, drawn as what they are."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(6, 4, 3), torch.nn.ReLU())
    model = cs.load(network, input=(6, 12, 16))
    bands = np.random.default_rng(0).normal(size=(6, 12, 16)).astype(np.float32)
    np.save(tmp_path / "bands.npy", bands)
    page = cs.export(model=model, images=[bands, str(tmp_path / "bands.npy")])
    names = [one["name"] for one in json.loads(entries(page.html)["api/inputs"])["inputs"]]
    assert names == ["array"]  # the same image twice is one
    session = Session(model).load_now()
    first, second = (session.add_input(read_input(one)) for one in (bands, tmp_path / "bands.npy"))
    assert first is second
    assert any("channel 0 of 6" in line for line in first.preprocessing)
    found = cs.feature_maps(model, bands, "0")["0"].values
    np.testing.assert_array_equal(session.maps(first, 0), found)
    with pytest.raises(UsageError, match="An array of 2 images was given for one"):
        session.add_input(read_input(np.stack([bands, bands])))


def test_two_networks_and_data_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    """Everything but the waiting: what the session would be."""
    uvicorn: Any = pytest.importorskip("uvicorn")
    from convscope._app import server

    made = []
    real = server.make_session
    monkeypatch.setattr(
        server, "make_session", lambda *a, **k: made.append(real(*a, **k)) or made[-1]
    )
    monkeypatch.setattr("convscope._app.server.limit_threads", lambda: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    out = tmp_path / "atlas"
    run("serve", str(out), "-m", "demo", "-m", "demo", "--data", str(photos), "--port", "0")
    (session,) = made
    assert session.load_now().model.title == "demo"
    assert session.other is not None
    assert session.other.load_now().model is not session.model
    assert len(session.dataset) == 24
    assert (session.atlas, session.folder) == (None, out)
    assert session.activations.max_bytes == session.other.activations.max_bytes == 256 << 20


def test_what_cannot_be_served_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, said in (
        (["-m", "demo", "-m", "demo", "-m", "demo"], "the app compares two: -m A -m B"),
        (["--data", str(tmp_path / "nothing")], "nothing"),
        ([str(tmp_path)], "is not an atlas"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["serve", *words])
        assert stop.value.code == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
