"""Watching a training: what is recorded, how it is drawn, and that the network is unchanged."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

import convscope as cs
from convscope._errors import MissingDependency, UnknownLayer, UsageError
from convscope._plot import table
from convscope._watch import FrameStyle, Watch, WatchFrame


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Network(nn.Module):
    """All that could be left in disorder: dropout, norms, in-place results, frozen weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.head.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.relu(self.norm(self.conv(x))))
        return self.head(x.mean((2, 3)))


def loaded(network: nn.Module, channels: int = 1) -> Any:
    return cs.load(network, input=(channels, 8, 10))


IMAGE = np.random.default_rng(0).normal(size=(1, 8, 10)).astype(np.float32)


class Notes:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[WatchFrame] = []
        self.closed = 0

    def write(self, frame: WatchFrame, style: FrameStyle) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        self.closed += 1


def gain(strength: float) -> nn.Sequential:
    """A network whose channels are the image times ``strength`` and times ten."""
    conv = nn.Conv2d(1, 2, 1, bias=False)
    conv.weight.data = torch.tensor([strength, 10.0]).reshape(2, 1, 1, 1)
    return nn.Sequential(conv)


# -- what is recorded ------------------------------------------------------------------------


def test_a_frame_holds_what_the_layer_computes_now() -> None:
    network, notes = Network().train(), Notes()
    watch = cs.watch(loaded(network), IMAGE, ["conv", "relu"], to=notes)
    for k in range(2):
        network.conv.weight.data += k
        assert watch.step(f"moment {k}")
        conv = functional.conv2d(
            torch.from_numpy(IMAGE), network.conv.weight, network.conv.bias, padding=1
        )
        norm = functional.batch_norm(
            conv[None], network.norm.running_mean, network.norm.running_var, eps=network.norm.eps
        )
        first, second = notes.frames[-2:]
        assert (first.layer, first.step, first.label) == ("conv", k + 1, f"moment {k}")
        assert np.allclose(first.values, conv.detach(), atol=1e-5)
        assert np.allclose(second.values, norm[0].clamp_min(0).detach(), atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    network = Network().train()
    network.norm.eval()  # as found, not as expected
    network(torch.rand(5, 1, 8, 10)).sum().backward()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    random = torch.get_rng_state()
    watch = cs.watch(loaded(network), IMAGE, "kind=relu", to=Notes())
    watch.step()
    watch.close()
    assert torch.equal(random, torch.get_rng_state())
    assert [m.training for m in network.modules()] == [True, True, False, True, True, True]
    assert network.relu.inplace
    assert [p.requires_grad for p in network.parameters()] == [True] * 5 + [False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        assert parameter.grad is grad or torch.equal(parameter.grad, grad)  # type: ignore[arg-type]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_training_comes_out_the_same_with_and_without() -> None:
    def trained(watched: bool) -> torch.Tensor:
        network = Network().train()
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        watch = cs.watch(loaded(network), IMAGE, "conv", to=Notes())
        torch.manual_seed(1)
        for _ in range(5):
            loss = network(torch.rand(6, 1, 8, 10)).pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            if watched:
                watch.step()  # between backward and step: gradients survive it
            optimizer.step()
        return torch.cat([p.flatten() for p in network.parameters()])

    assert torch.equal(trained(True), trained(False))


def test_only_due_steps_record() -> None:
    network, notes, passes = Network(), Notes(), []
    model = loaded(network)
    model.activations(model.prepare(IMAGE), "conv")  # checked once
    watch = cs.watch(model, IMAGE, "conv", every=3, to=notes)
    network.register_forward_pre_hook(lambda *_: passes.append(1))
    assert [watch.step() for _ in range(7)] == [True, False, True, False, False, True, False]
    assert [frame.step for frame in notes.frames] == [1, 3, 6]
    assert len(passes) == 3
    assert watch.step(number=12)
    assert not watch.step()
    assert watch.number == 13


def test_channels_are_chosen() -> None:
    notes = Notes()
    network = loaded(Network())
    cs.watch(network, IMAGE, "conv", first=2, to=notes).step()
    cs.watch(network, IMAGE, "conv", channels=[3, 1], to=notes).step()
    cs.watch(network, IMAGE, "conv", first=None, to=notes).step()
    assert [frame.channels for frame in notes.frames] == [(0, 1), (3, 1), (0, 1, 2, 3)]
    whole = notes.frames[2].values
    assert np.array_equal(notes.frames[1].values, whole[[3, 1]])
    assert "2 of 4 channels" in notes.frames[0].lines[0]


def test_a_with_closes_also_after_an_error() -> None:
    notes = Notes()
    with pytest.raises(KeyboardInterrupt), cs.watch(loaded(Network()), IMAGE, "conv", to=notes):
        raise KeyboardInterrupt
    assert notes.closed == 1


# -- how it is drawn -------------------------------------------------------------------------


def test_frames_share_one_range_that_is_written_on_them(tmp_path: Path) -> None:
    """Channel 0 grows from 1 to 4 times the image: its colors have to grow as well."""
    image = np.zeros((1, 8, 10), np.float32)
    image[0, 2, 3] = 1
    network = gain(0)
    with cs.watch(loaded(network), image, "0", to=tmp_path) as watch:
        for strength in (1, 2, 4):
            network[0].weight.data[0] = strength
            watch.step(f"strength {strength}")
    viridis = table("viridis", 241)
    for step, index in ((1, 60), (2, 120), (3, 240)):
        with Image.open(tmp_path / f"array.0.{step:04d}.png") as figure:
            pixels = np.asarray(figure.convert("RGB"))
            description = figure.info["Description"]
        bright = (pixels == viridis[index]).all(2).sum()
        assert bright >= 10 * 10, step  # the one bright pixel, enlarged
        assert (
            "colors of each channel: from the lowest to the highest value in the 3 frames"
            in description
        )
        own = "each channel on a range of its own, written beside it"
        assert (own in description) == (
            step < 3
        )  # the last frame's own range happens to be that of all
    tiles = WatchFrame.load(tmp_path / "array.0.0002.npz").sheet(FrameStyle()).sections[0].tiles
    assert [tile.note for tile in tiles] == ["0…2", "0…10"]


@pytest.mark.parametrize(
    ("range", "cmap", "first", "text"),
    [
        ("layer", "viridis", (0.0, 10.0), "colors of all channels shown: from the lowest to the"),
        (
            (-2.0, 5.0),
            "gray",
            (-2.0, 5.0),
            "colors of all channels: a given range, the same in every",
        ),
        (
            "channel",
            "signed",
            (-4.0, 4.0),
            "colors of each channel: ± the largest magnitude in the 2",
        ),
        (
            "layer",
            "signed",
            (-10.0, 10.0),
            "colors of all channels shown: ± the largest magnitude in",
        ),
    ],
)
def test_ranges(range: Any, cmap: str, first: tuple[float, float], text: str) -> None:
    notes = Notes()
    network = gain(1)
    watch = cs.watch(
        loaded(network), np.ones((1, 8, 10), np.float32) * (np.arange(10) > 4), "0", to=notes
    )
    watch.step()
    network[0].weight.data[0] = 4
    watch.step()
    one, two = notes.frames
    sheet = one.sheet(FrameStyle(range, cmap), one.value_range | two.value_range, "in the 2 frames")
    tile = sheet.sections[0].tiles[0]
    assert (tile.low, tile.high) == first
    assert text in sheet.description


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("range", ["channel", "layer"])
def test_what_never_varies_is_not_stretched_and_what_is_no_number_is_marked(
    theme: Any, range: Any
) -> None:
    values = np.zeros((4, 6, 6), np.float32)
    values[1] = np.arange(36).reshape(6, 6)
    values[2, 0, 0], values[3] = np.nan, np.inf
    frame = WatchFrame(1, "", "x", "image", ("model m",), (0, 1, 2, 3), values)
    sheet = frame.sheet(FrameStyle(range, theme=theme))
    assert [tile.state for tile in sheet.sections[0].tiles] == ["zero", "live", "nan", "inf"]
    assert sheet.image.size
    assert sheet.title == "x · step 1"


def test_the_animation_holds_every_frame(tmp_path: Path) -> None:
    network = Network()
    frames = cs.Frames(tmp_path)
    with cs.watch(loaded(network), IMAGE, "relu", to=frames) as watch:
        for k in range(4):
            network.norm.bias.data[:] = -9.0 if k == 2 else k  # all zero once: one legend line more
            watch.step(f"epoch {k + 1}")
    assert frames.animations == (tmp_path / "array.relu.webp",)
    figures = [Image.open(path).convert("RGB") for path in sorted(tmp_path.glob("*.png"))]
    heights = {figure.height for figure in figures}
    assert len(heights) == 2
    with Image.open(frames.animations[0]) as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]
        assert animation.size == (figures[0].width, max(heights))
        assert animation.info["loop"] == 0
        for k, figure in enumerate(figures):
            animation.seek(k)
            shown = np.asarray(animation.convert("RGB"))
            assert np.array_equal(shown[-figure.height :], np.asarray(figure)), k
            assert animation.info["duration"] == (2000 if k == 3 else 600)


def test_a_long_animation_takes_evenly_spaced_frames(tmp_path: Path) -> None:
    network = gain(1)
    frames = cs.Frames(tmp_path, seconds=0.25, max_frames=3)
    with cs.watch(loaded(network), IMAGE, "0", to=frames) as watch:
        for _ in range(9):
            watch.step()
    assert len(list(tmp_path.glob("*.png"))) == 9
    with Image.open(frames.animations[0]) as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined]
        animation.load()
        assert animation.info["duration"] == 250


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.split(".")[2]) for path in folder.glob("*.png"))


def test_a_training_that_goes_on_keeps_the_past_and_replaces_the_rest(tmp_path: Path) -> None:
    network = gain(8)
    with cs.watch(loaded(network), IMAGE, "0", to=tmp_path) as watch:
        for _ in range(5):
            watch.step()
    network[0].weight.data[0] = 1
    with cs.watch(loaded(network), IMAGE, "0", to=cs.Frames(tmp_path)) as watch:
        watch.step(number=3)
        assert steps(tmp_path) == [1, 2, 3]
    span = WatchFrame.load(tmp_path / "array.0.0001.npz").value_range
    assert span.high[0] == pytest.approx(8 * IMAGE.max())
    with Image.open(tmp_path / "array.0.webp") as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined]
    (tmp_path / "array.0.0002.npz").write_bytes(b"PK damaged")
    with cs.watch(loaded(network), IMAGE, "0", to=tmp_path) as watch:
        watch.step(number=4)
        assert steps(tmp_path) == [1, 3, 4]
    with cs.watch(loaded(network), IMAGE, "0", channels=[1], to=tmp_path) as watch:
        watch.step(number=5)  # other channels cannot be compared
        assert steps(tmp_path) == [5]
    (tmp_path / "other.0.0001.npz").touch()  # somebody else's
    with cs.watch(loaded(network), IMAGE, "0", to=tmp_path) as watch:
        watch.step()
    assert steps(tmp_path) == [1]
    assert (tmp_path / "other.0.0001.npz").exists()


def test_closing_twice_and_going_on_is_no_harm(tmp_path: Path) -> None:
    watch = cs.watch(loaded(gain(1)), IMAGE, "0", to=[tmp_path, Notes()])
    watch.close()
    assert not list(tmp_path.iterdir())
    for count in (1, 2):
        watch.step()
        watch.close()
        with Image.open(tmp_path / "array.0.webp") as animation:
            assert getattr(animation, "n_frames", 1) == count


def test_the_preprocessing_of_a_photograph_is_stated(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "cat.jpg")
    with cs.watch("demo", tmp_path / "cat.jpg", "stem.*", to=tmp_path / "f", first=2) as watch:
        watch.step("now")
    names = {path.name for path in (tmp_path / "f").iterdir()}
    assert {"cat.stem.conv.0001.png", "cat.stem.conv.webp"} <= names
    with Image.open(tmp_path / "f" / "cat.stem.conv.0001.png") as figure:
        assert (
            "input cat.jpg 20×30 (height×width), preprocessed to 32×32"
            in figure.info["Description"]
        )


# -- other people's loops --------------------------------------------------------------------


def a_keras_model() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras is on another backend in this process")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 10, 1)),
            keras.layers.Conv2D(3, 3, name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    return model


def keras_fit(model: Any, epochs: int = 3, **options: Any) -> None:
    random = np.random.default_rng(0)
    inputs, targets = random.normal(size=(12, 8, 10, 1)), random.normal(size=(12, 2))
    model.fit(inputs.astype(np.float32), targets, epochs=epochs, verbose=0, **options)


def by_hand(image: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """A 3×3 convolution of ``(H, W, C)``, channels last, as its definition says."""
    height, width = image.shape[0] - 2, image.shape[1] - 2
    return np.stack(
        [
            [
                (image[y : y + 3, x : x + 3, :, None] * kernel).sum((0, 1, 2)) + bias
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_callback(tmp_path: Path) -> None:
    model, notes = a_keras_model(), Notes()
    watch = cs.watch(model, IMAGE[0, :, :, None], "conv", to=[notes, tmp_path])
    weights: list[list[NDArray[Any]]] = []
    keras = sys.modules["keras"]
    noting = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: weights.append(model.get_layer("conv").get_weights())
    )
    keras_fit(model, validation_split=0.25, callbacks=[watch.keras(), noting])
    assert [frame.step for frame in notes.frames] == [1, 2, 3]
    for frame, (kernel, bias) in zip(notes.frames, weights, strict=True):
        expected = by_hand(IMAGE[0, :, :, None], kernel, bias).transpose(2, 0, 1)
        assert np.allclose(frame.values, expected, atol=1e-4)
    label = notes.frames[1].label
    assert label.startswith("epoch 2 of 3 · loss ")
    assert "val_loss" in label
    assert notes.closed == 1
    with Image.open(tmp_path / "array.conv.webp") as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_trains_the_same_with_and_without() -> None:
    def trained(watched: bool) -> NDArray[Any]:
        model = a_keras_model()
        watch = cs.watch(model, IMAGE[0, :, :, None], "conv", to=Notes())
        keras_fit(model, callbacks=[watch.keras()] if watched else [])
        return np.concatenate([value.ravel() for value in model.get_weights()])

    assert np.array_equal(trained(True), trained(False))


def a_lightning_module(framework: Any) -> Any:
    class Lit(framework.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = Network()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            assert self.network.training
            loss = self.network(batch[0]).pow(2).mean()
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_acc", 0.5 + 0.125 * self.current_epoch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    return Lit()


def lightning_fit(framework: Any, module: Any, folder: Path, watch: Watch, epochs: int = 2) -> None:
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 1, 8, 10)), 4)
    trainer = framework.Trainer(
        max_epochs=epochs,
        callbacks=[watch.lightning()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data, data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_callback(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    framework = pytest.importorskip(package, reason="lightning is not installed")
    for other in {"lightning.pytorch", "pytorch_lightning"} - {package}:
        monkeypatch.delitem(sys.modules, other, raising=False)
    module, notes = a_lightning_module(framework), Notes()
    watch = cs.watch(loaded(module.network), IMAGE, "conv", to=notes)
    assert isinstance(watch.lightning(), framework.Callback)
    lightning_fit(framework, module, tmp_path, watch)
    assert [frame.step for frame in notes.frames] == [1, 2]
    assert notes.frames[1].label.startswith("epoch 2 of 2 · loss ")
    assert notes.frames[1].label.endswith(" · val_acc 62.5%")
    conv = module.network.conv
    expected = functional.conv2d(torch.from_numpy(IMAGE), conv.weight, conv.bias, padding=1)
    assert np.allclose(notes.frames[1].values, expected.detach(), atol=1e-5)
    assert notes.closed == 1


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_run_that_fails_keeps_its_frames(tmp_path: Path) -> None:
    framework = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    module, notes = a_lightning_module(framework), Notes()

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    module.on_train_epoch_start = fail
    with pytest.raises(RuntimeError, match="no"):
        lightning_fit(
            framework, module, tmp_path, cs.watch(loaded(module.network), IMAGE, "conv", to=notes)
        )
    assert notes.closed == 1


def events(folder: Path) -> dict[str, list[tuple[int, Image.Image]]]:
    """All images in a folder of event files, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {
        tag: [
            (event.step, Image.open(io.BytesIO(event.encoded_image_string)))
            for event in found.Images(tag)
        ]
        for tag in found.Tags()["images"]
    }


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_holds_the_frames(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    network, notes = Network(), Notes()
    with cs.watch(
        loaded(network), IMAGE, ["conv", "relu"], to=[cs.TensorBoard(tmp_path), notes]
    ) as watch:
        for k in range(3):
            network.conv.weight.data += k
            watch.step(f"epoch {k + 1}")
    found = events(tmp_path)
    assert found.keys() == {"array/conv", "array/relu"}
    assert [step for step, _ in found["array/conv"]] == [1, 2, 3]
    frames = [frame for frame in notes.frames if frame.layer == "conv"]
    span = frames[0].value_range | frames[1].value_range
    expected = frames[1].sheet(FrameStyle(), span, "in the 2 frames so far").image.convert("RGB")
    assert np.array_equal(found["array/conv"][1][1].convert("RGB"), expected)


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_writes_into_a_run_that_is_open(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        with cs.watch(loaded(gain(1)), IMAGE, "0", to=cs.TensorBoard(writer)) as watch:
            watch.step()
        assert events(tmp_path).keys() == {"array/0"}  # flushed
        writer.add_scalar("loss", 1.0, 1)  # not closed


# -- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"every": 0}, UsageError, "every=0 records nothing. Nearest: 1"),
        ({"first": 0}, UsageError, "first=0 shows nothing. Nearest: 1"),
        ({"layers": "cov"}, UnknownLayer, "No layer 'cov' in Network. Close: 'conv'"),
        ({"channels": [7]}, UnknownLayer, "No channel 7 in 'conv' of Network: it has 4, 0 to 3"),
        (
            {"to": 7},
            UsageError,
            "to= takes a folder or a writer: cs.Frames('frames/'), cs.TensorBoard('runs/'), not 7",
        ),
        ({"range": "wide"}, UsageError, "No range 'wide'"),
        ({"range": (2.0, 1.0)}, UsageError, "A range needs low < high, both finite, not (2, 1)"),
        ({"cmap": "virids"}, UsageError, "No color map 'virids'. Close: 'viridis'."),
        ({"theme": "drak"}, UsageError, "No theme 'drak'. Close: 'dark'."),
        (
            {"image": np.stack([IMAGE, IMAGE])},
            UsageError,
            "watch takes one image, not 2. Make a watch for each",
        ),
    ],
)
def test_mistakes_are_errors_at_once(options: dict[str, Any], error: Any, text: str) -> None:
    options = {"image": IMAGE, "layers": "conv", "to": Notes()} | options
    with pytest.raises(error) as caught:
        cs.watch(loaded(Network()), **options)
    assert text in str(caught.value)


def test_mistakes_of_writers(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="max_frames=1 or more and seconds above 0, not 0 and None"
    ):
        cs.Frames(tmp_path, max_frames=0)
    with pytest.raises(UsageError, match="TensorBoard takes a folder or a SummaryWriter, not 7"):
        cs.TensorBoard(7)


def test_what_is_not_installed_is_said_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "keras", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    watch = cs.watch(loaded(Network()), IMAGE, "conv", to=Notes())
    with pytest.raises(MissingDependency) as caught:
        watch.lightning()
    assert str(caught.value) == (
        "watch(…).lightning() needs lightning. Install it: pip install 'lightning'"
    )
    with pytest.raises(MissingDependency) as caught:
        watch.keras()
    assert str(caught.value) == (
        "watch(…).keras() needs keras. Install it: pip install 'convscope[keras]'"
    )
    with pytest.raises(MissingDependency) as caught:
        cs.TensorBoard(tmp_path)
    assert str(caught.value) == (
        "cs.TensorBoard needs tensorboard. Install it: pip install 'tensorboard'"
    )


def test_representations(tmp_path: Path) -> None:
    watch = cs.watch(loaded(Network()), IMAGE, ["conv", "relu"], to=Notes())
    assert repr(watch) == "Watch(array in conv, relu of Network)"
    assert repr(cs.Frames("frames")) == "Frames('frames')"
