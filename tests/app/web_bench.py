"""What the tests of the app share: a small network, pictures, a client."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

import convscope as cs
from convscope._app.asgi import make_app
from convscope._app.session import Session

HERE = "http://127.0.0.1:8765"


def network(seed: int = 0) -> nn.Module:
    """Its channel 2 of ``0`` is dead behind ``1``."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    with torch.no_grad():
        net[0].bias[2] = -100.0
    return net.eval()


def loaded(seed: int = 0) -> cs.Model:
    """The network as it is looked into."""
    return cs.load(
        network(seed),
        preprocess=cs.Preprocess(size=(24, 32)),
        classes=["cat", "dog", "cow"],
        input=(3, 24, 32),
    )


def png(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    """An image of noise as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def client_of(session: Session, **options: Any) -> TestClient:
    return TestClient(make_app(session, **options), base_url=HERE, raise_server_exceptions=False)


def wait(client: TestClient, state: str = "ready") -> dict[str, Any]:
    """What is told of the model once it is no longer being loaded."""
    for _ in range(600):
        answer = client.get("/api/model")
        if answer.status_code == 200:
            assert answer.json()["state"] == state
            return answer.json()  # type: ignore[no-any-return]
        time.sleep(0.02)
    raise AssertionError("the model is loaded for ever")


def shown(client: TestClient, seed: int = 0) -> str:
    """The id of a picture that was put under the microscope."""
    answer = client.post("/api/inputs?name=noise.png", content=png(seed))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]  # type: ignore[no-any-return]
