"""The tools that convscope is measured beside: each in a folder of its own, and found again.

    python benchmarks/peers.py          (a part of `make bench`)

All share this environment's torch. pip is asked what a peer lacks here; what it would *replace* is
left as it is, and the table says so. What cannot be installed or imported is listed with its error.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("CONVSCOPE_PEERS") or Path(sys.prefix) / "peers")
SHARED = re.compile(r"torch|torchvision|triton|(nvidia|cuda)-.*")  # never a second time


@dataclass(frozen=True)
class Peer:
    """``wanted`` is what pip is asked for, ``why`` anything in it beside the peer itself."""

    name: str
    module: str
    wanted: tuple[str, ...]
    why: str = ""


PEERS = (
    Peer("torchvision", "torchvision", ("torchvision",)),
    Peer("TorchLens", "torchlens", ("torchlens",)),
    Peer("captum", "captum", ("captum",)),
    Peer(
        "lucent",
        "lucent.optvis.render",
        ("torch-lucent", "kornia==0.4.1"),
        "kornia 0.4.1: later ones lack what lucent calls",
    ),
    Peer("horama", "horama", ("horama", "einops"), "einops: imported, not declared"),
    Peer("zennit-crp", "crp.visualization", ("zennit-crp",)),
    Peer(
        "semanticlens", "semanticlens.component_visualization.activation_caching", ("semanticlens",)
    ),
)
# Of the same trade, not run, and why; pip is asked whether they fit beside this torch.
OTHERS = {
    "thingsvision": "records activations, as TorchLens",
    "xplique": "Keras on TensorFlow alone",
    "lucid": "TensorFlow 1",
    "torch-dreams": "activation maximization, as lucent",
    "tf-keras-vis": "Keras on TensorFlow alone",
    "keract": "Keras on TensorFlow alone",
}


def resolve(wanted: tuple[str, ...]) -> list[tuple[str, str]]:
    """What pip would install here, by name and version; ``RuntimeError`` with its last line."""
    done = _pip("install", "--dry-run", "--quiet", "--report", "-", *wanted)
    return [
        (part["metadata"]["name"], part["metadata"]["version"])
        for part in json.loads(done.stdout)["install"]
    ]


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        told = [line.strip() for line in done.stderr.splitlines() if "error:" in line.lower()]
        raise RuntimeError(told[-1][:200] if told else "pip failed")
    return done


def replaced(found: list[tuple[str, str]], here: dict[str, str]) -> list[str]:
    """What of this environment an ordinary installation would replace: ``numpy 2.4 by 1.26``."""
    return [
        f"{name} {here[plain(name)]} by {version}"
        for name, version in found
        if plain(name) in here and here[plain(name)] != version
    ]


def lacking(found: list[tuple[str, str]], here: dict[str, str]) -> list[str]:
    """What is to be installed beside it: neither here already nor of torch's family."""
    return [
        f"{name}=={version}"
        for name, version in found
        if plain(name) not in here and not SHARED.fullmatch(plain(name))
    ]


def plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def installed() -> dict[str, str]:
    from importlib.metadata import distributions

    return {plain(one.name): one.version for one in distributions()}


def install(peer: Peer) -> dict[str, Any]:
    """In its folder, with nothing that is here already; then imported once, in a process."""
    here, folder = installed(), FOLDER / peer.name
    try:
        found = resolve(peer.wanted)
        missing = lacking(found, here)
        if missing:
            _pip("install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder), *missing)
        _importable(peer)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return {"error": " ".join(str(error).split())[:300]}
    return {"why": peer.why, "replaces": replaced(found, here), "beside": missing}


def _importable(peer: Peer) -> None:
    code = f"import sys; sys.path.append({str(FOLDER / peer.name)!r}); import {peer.module}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"import {peer.module}: {done.stderr.strip().splitlines()[-1]}")


def refused(name: str) -> dict[str, Any]:
    """What an ordinary installation of ``name`` would do here."""
    try:
        return {"error": "", "replaces": replaced(resolve((name,)), installed())}
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return {"error": str(error), "replaces": []}


def reach(name: str) -> Any:
    """The module of a peer; its folder comes after everything that is here."""
    peer = next(one for one in PEERS if one.name == name)
    folder = str(FOLDER / peer.name)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(peer.module)


def recorded() -> dict[str, Any]:
    """What the installation noted down."""
    file = FOLDER / "peers.json"
    return dict(json.loads(file.read_text())) if file.exists() else {"peers": {}, "others": {}}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    notes: dict[str, dict[str, Any]] = {"peers": {}, "others": {}}
    for peer in PEERS:
        notes["peers"][peer.name] = install(peer)
        print(peer.name, notes["peers"][peer.name].get("error", "installed"), flush=True)
    for name in OTHERS:
        notes["others"][name] = refused(name)
        print(name, notes["others"][name], flush=True)
    (FOLDER / "peers.json").write_text(json.dumps(notes, indent=1) + "\n")


if __name__ == "__main__":
    main()
