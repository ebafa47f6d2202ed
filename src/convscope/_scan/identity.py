"""What tells one scan from another, in the manifest's words."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def made_with() -> dict[str, Any]:
    """What the bits of a scan may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


_TOLD = {
    "name": "the {what}'s name",
    "title": "the {what}",
    "fingerprint": "the {what}'s contents",
    "preprocess": "the preprocessing",
    "images": "the number of images",
}


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """``top 9, not 5; the model's contents 1f…, not 2e…``: what was, and what is asked for."""
    told = []
    for what in ("model", "dataset", "settings"):
        for key, value in now[what].items():
            was = then.get(what, {}).get(key)
            if was == value:
                continue
            if key == "name" and what == "dataset":
                continue  # a folder may be reached by another path: its contents decide
            name = _TOLD.get(key, key).format(what=what)
            if key == "layers":
                told.append(
                    f"{len(was or ())} layers, not the {len(value)} asked for now"
                    if len(was or ()) != len(value)
                    else "other layers"
                )
            else:
                told.append(f"{name} {was}, not {value}")
    return "; ".join(told)
