"""The README's Python runs, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from convscope.cli import app

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    convscope (.+)$", TEXT, re.MULTILINE)


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the photograph")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.cat()).save("cat.jpg")
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.fromarray(data.cat()[:, 40 * k :]).save(tmp_path / "pets" / name / "1.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("cat", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(f"photos/{name}.jpg")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, names)
    assert list((tmp_path / "frames").iterdir())
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "depths.png", "maps.png", "filters.png", "unit.png", "dream.png", "unit-top.png",
        "why.png"
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_take_the_options_shown(command: str) -> None:
    """Every verb and every option in a command is in that verb's help."""
    verb, *words = shlex.split(re.split(r"\s{3,}", command, maxsplit=1)[0] if "   " in command
                               else command)  # fmt: skip
    help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
    options = [word for word in words if word.startswith("-")]
    for option in options:
        assert option in help_text


def test_its_links_lead_somewhere() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (root / target).exists(), target
