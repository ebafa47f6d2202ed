"""A scan with small batches and shards, as several test files here run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import convscope as cs

SMALL: dict[str, Any] = {"batch": 4, "shard": 12, "top": 5}


def message(raised: pytest.ExceptionInfo[Exception]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


def summary(folder: Path) -> bytes:
    return (folder / "summary.safetensors").read_bytes()


def run(model: Any, data: Any, out: Path, **options: Any) -> cs.Atlas:
    return cs.scan(model, data, out, ["kind=conv", "kind=relu", "4"], **{**SMALL, **options})
