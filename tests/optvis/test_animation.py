"""The animation of an ascent: from the start to the last picture, bounded, endless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_dream import FEW, PICTURE, network

import convscope as cs
from convscope._models import Model
from convscope._optvis import OptimizationStep, dream, maximize, style
from convscope._optvis import animation as room
from convscope._optvis.animation import MAX_FRAMES, MAX_SIDE, FrameRecorder, Preview, animation

Loader = Callable[..., Model]


def frames_of(path: Path) -> tuple[Image.Image, list[int]]:
    file = Image.open(path)
    durations = []
    for k in range(file.n_frames):  # type: ignore[attr-defined]
        file.seek(k)
        file.load()
        durations.append(file.info["duration"])
    return file, durations


def filmed(film: FrameRecorder, steps: int, size: tuple[int, int] = (4, 6)) -> None:
    picture = torch.zeros(2, 3, *size)
    film.start(("a", "b"), picture)
    for done in range(1, steps + 1):
        film(OptimizationStep(done, steps, ("a", "b"), lambda done=done: picture + done / 255))


def test_the_start_and_the_end_are_kept_and_no_more_than_bounded() -> None:
    film = FrameRecorder(500, easing=2.0)
    filmed(film, 500)
    steps = [moment.step for moment in film.frames("b")]
    assert (steps[0], steps[-1], len(steps)) == (0, 500, MAX_FRAMES)
    assert steps[1] - steps[0] < steps[-1] - steps[-2]
    assert [m.pixels[0, 0, 0] for m in film.frames("a")] == [min(s, 255) for s in steps]
    assert film.frames("c") == ()


def test_few_steps_are_all_kept() -> None:
    film = FrameRecorder(3)
    filmed(film, 3)
    assert [moment.step for moment in film.frames("a")] == [0, 1, 2, 3]


def test_large_pictures_are_reduced_and_many_share_the_memory() -> None:
    film = FrameRecorder(100)
    filmed(film, 1, (2 * MAX_SIDE, MAX_SIDE))
    assert film.frames("a")[0].pixels.shape == (3, MAX_SIDE, MAX_SIDE // 2)
    many = FrameRecorder(100, 200)
    filmed(many, 100)
    assert 2 <= len(many.frames("a")) < 5


def test_what_begins_again_is_forgotten_first() -> None:
    film = FrameRecorder(4)
    filmed(film, 2)
    filmed(film, 4)
    assert [moment.step for moment in film.frames("a")] == [0, 1, 2, 3, 4]


def test_an_animation_is_endless_and_holds_its_last(tmp_path: Path, small: Loader) -> None:
    made = dream(small(network()), PICTURE, "4", animate=True, **FEW)
    assert [moment.step for moment in made.frames] == list(range(7))
    np.testing.assert_array_equal(made.frames[0].pixels, PICTURE.transpose(2, 0, 1))
    np.testing.assert_array_equal(made.frames[-1].pixels, np.rint(made.values * 255))
    file, durations = frames_of(made.save(tmp_path / "dream.webp"))
    assert len(durations) == 7
    assert durations[-1] >= 2000 > durations[0] > durations[1]
    assert file.info["loop"] == 0
    assert file.size == made.animation_frames()[0].size
    assert (tmp_path / "dream.json").exists()


def test_a_style_in_the_making(tmp_path: Path, small: Loader) -> None:
    made = style(
        small(network()),
        PICTURE,
        PICTURE[::-1].copy(),
        steps=5,
        octaves=1,
        layers="1",
        content_layer="4",
        animate=True,
    )
    assert len(frames_of(made.save(tmp_path / "style.webp"))[1]) == len(made.frames)
    assert [moment.step for moment in made.frames][-1] == 5


def test_without_moments_it_is_a_still(tmp_path: Path, small: Loader) -> None:
    made = dream(small(network()), PICTURE, "4", **FEW)
    still = Image.open(made.save(tmp_path / "dream.webp"))
    np.testing.assert_array_equal(np.asarray(still), made.image)


@pytest.mark.parametrize("batch", [1, None])
def test_a_climb_one_unit_or_several(tmp_path: Path, small: Loader, batch: int | None) -> None:
    found = maximize(
        small(network()), ["4:1", "4:2", "4:3"], steps=5, batch_size=batch, animate=True
    )
    assert [[m.step for m in one.frames][-1] for one in found] == [5, 5, 5]
    for one in found:
        np.testing.assert_array_equal(one.frames[-1].pixels, np.rint(one.values * 255))
    count = len(found[0].frames)
    assert len(frames_of(found.save(tmp_path / "all.webp")[0])[1]) == count
    assert len(frames_of(found[0].save(tmp_path / "one.webp"))[1]) == count


def test_a_dead_unit_has_no_film(tmp_path: Path, planted: Model) -> None:
    found = maximize(planted, ["relu:3", "relu:0"], steps=4, animate=True)
    assert [bool(one.frames) for one in found] == [False, True]
    assert len(found.animation_frames()) == len(found[1].frames)
    with Image.open(found[0].save(tmp_path / "dead.webp")) as still:
        assert not getattr(still, "is_animated", False)


def test_an_animation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 96, 96, 3), np.uint8)
    frames = [Image.fromarray(one) for one in noise]
    free = animation(frames)
    monkeypatch.setattr(room, "_FILE_SIZE", len(free) // 4)
    assert len(animation(frames)) <= len(free) // 4


def test_a_preview_shows_every_unit_while_it_climbs(tmp_path: Path) -> None:
    """Written after the first step, and again as often as asked, each time whole."""
    seen: list[list[str]] = []
    preview = Preview(tmp_path / "now.png", interval=0)

    def watch(step: OptimizationStep) -> None:
        preview(step)
        with Image.open(preview.file) as image:
            image.load()
            seen.append([image.text["Title"], image.text["Description"]])  # type: ignore[attr-defined]

    cs.maximize("demo", ["stage1/add:3", "stage1/add:4"], steps=3, size=32, on_step=watch)
    assert len(seen) == 3
    assert seen[-1][0] == "optimization in progress"
    assert "100% of all steps" in seen[-1][1]


def test_a_preview_is_not_written_at_every_step(tmp_path: Path) -> None:
    written: list[float] = []
    preview = Preview(tmp_path / "now.png", interval=3600)

    def watch(step: OptimizationStep) -> None:
        preview(step)
        written.append(preview.file.stat().st_mtime_ns)

    cs.maximize("demo", "stage1/add:3", steps=4, size=32, on_step=watch)
    assert len(set(written)) == 1
