from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope._plot import text
from convscope._plot.text import fit, mask, number, span, width, wrap

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=80)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (-0.0, "0"),
        (0.3100001, "0.31"),
        (-1.234, "−1.23"),
        (4.1e-5, "4.1e−5"),
        (1234, "1234"),
        (123456, "123456"),
        (2.5e9, "2.5e9"),
        (float("inf"), "∞"),
    ],
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


def test_span() -> None:
    assert span(-1, 0.5) == "−1…0.5"


@settings(max_examples=100, deadline=None)
@given(WORDS, st.integers(0, 300))
def test_fitted_text_fits(words: str, room: int) -> None:
    fitted = fit(words, "line", room)
    assert width(fitted, "line") <= room
    assert fitted == words or width(words, "line") > room


def test_the_middle_is_left_out() -> None:
    fitted = fit("a_long_file_name_of_a_cat.png", "line", 120)
    assert fitted.startswith("a_long")
    assert fitted.endswith(".png")
    assert "…" in fitted


@settings(max_examples=100, deadline=None)
@given(WORDS, st.integers(40, 400))
def test_wrapped_lines_fit_and_lose_nothing_that_has_room(words: str, room: int) -> None:
    lines = wrap(words, "line", room, 3)
    assert len(lines) <= 3
    assert all(width(line, "line") <= room for line in lines)
    if not any("…" in line for line in lines):
        assert " ".join(lines).replace("·", "").split() == words.replace("·", "").split()


def test_lines_break_between_clauses() -> None:
    line = "model torchvision:vgg16 · layer features.1 · 1×28×28 · input astronaut.png"
    assert wrap(line, "line", 380)[1] == "input astronaut.png"


def test_signs_are_real_glyphs() -> None:
    missing = mask("\ue123", "line").tobytes()
    for sign in "×–…−·±∞←é’":
        drawn = mask(sign, "line")
        assert drawn.any()
        assert drawn.tobytes() != missing
        assert drawn.max() <= 10


def test_without_dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = (text._font, text.width, text.heights, text.mask)
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    for cache in caches:
        cache.cache_clear()
    try:
        assert (mask("3×3", "line") == mask("3x3", "line")).all()
        assert mask("−1", "line").any()
    finally:
        for cache in caches:
            cache.cache_clear()
