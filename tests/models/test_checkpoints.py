"""Weights are found wherever a file keeps them, or not at all: never in part."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import convscope as cs
from convscope._errors import UnsafeFile, WeightsError
from convscope._models.fitting import fit_weights
from convscope._models.weights import Weights, read_weights

IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Two levels of names, a normalization with its buffers and counter."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.classifier = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class Holder(nn.Module):
    """A network inside another one."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, net)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(self.name)(x)


def _state(seed: int = 0, net: nn.Module | None = None) -> dict[str, Tensor]:
    """Random weights, buffers included."""
    noise = torch.Generator().manual_seed(seed)
    state = (net or Net()).state_dict()
    return {
        name: torch.rand(value.shape, generator=noise) if value.is_floating_point() else value
        for name, value in state.items()
    }


def _expected(state: dict[str, Tensor], net: nn.Module | None = None) -> Tensor:
    """The logits, with the weights loaded by hand."""
    net = (net or Net()).eval()
    net.load_state_dict(state)
    return net(IMAGES).detach()


def _loaded(
    held: Any, net: nn.Module | None = None, path: Path | None = None
) -> tuple[Tensor, str]:
    """The logits of a network that the file's weights were fitted to, and what was said of it."""
    net = (net or Net()).eval()
    weights = Weights("w.pth", held)
    if path is not None:
        if held is not None:
            torch.save(held, path)
        weights = read_weights(path)
    said = fit_weights(net, weights, "net")
    return net(IMAGES).detach(), said


def _refused(kind: type[Exception], held: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        _loaded(held, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _inside(state: dict[str, Tensor], wrapper: str) -> dict[str, Tensor]:
    return {k.replace("features.", f"features.{wrapper}."): v for k, v in state.items()}


# What always loads

_KEYS = """state_dict model net network weights params params_ema model_ema ema state_dict_ema
model_state model_state_dict module generator best""".split()  # noqa: SIM905
_PREFIXES = ("", "module.", "model.", "net.", "_orig_mod.", "encoder.backbone.", "student.")
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")
_BESIDE: dict[str, Any] = {
    "epoch": 3,
    "optimizer": {"state": {0: {"exp_avg": torch.rand(4, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]},
    "hyper_parameters": argparse.Namespace(lr=0.1),
    "accuracy": np.float64(93.1),
    "loops": {"fit": {"state_dict": {}}},
    "ema_decay": torch.tensor(0.99),
}


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """A state_dict of ``Net`` as someone may have saved it, and the keys that lead to it."""
    state = _state(draw(st.integers(0, 3)))
    if draw(st.booleans()):
        state = _inside(state, draw(st.sampled_from(_WRAPPERS)))
    for prefix in draw(st.lists(st.sampled_from(_PREFIXES), max_size=2)):
        state = _prefixed(state, prefix)
    keys = draw(st.lists(st.sampled_from(_KEYS), max_size=3))
    held: dict[str, Any] = OrderedDict(state) if draw(st.booleans()) else state
    for key in keys:
        beside = draw(st.lists(st.sampled_from(sorted(_BESIDE)), max_size=3, unique=True))
        held = {**{name: _BESIDE[name] for name in beside}, key: held}
    return held, keys


def _innermost(held: dict[str, Any], keys: list[str]) -> dict[str, Tensor]:
    for key in reversed(keys):
        held = held[key]
    return held


def _by_hand(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the order of the network's own names: all that was added to them is undone."""
    return dict(zip(Net().state_dict(), state.values(), strict=True))


@given(checkpoint=checkpoints())
@settings(max_examples=60, deadline=None)
def test_any_nesting_and_prefix_gives_the_logits_of_the_weights(
    checkpoint: tuple[dict[str, Any], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    held, keys = checkpoint
    expected = _expected(_by_hand(_innermost(held, keys)))
    file = tmp_path_factory.mktemp("file") / "w.pth"
    logits, said = _loaded(held, path=file)
    assert torch.equal(logits, expected)
    assert said == "w.pth"
    wrapped = nn.DataParallel(Net())  # whose own names have wrappers
    wrapped.module.features = Holder(wrapped.module.features, "module")
    assert torch.equal(_loaded(held, wrapped)[0], expected)


@given(checkpoint=checkpoints(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_tensor_too_few_too_many_or_of_another_shape_is_never_loaded(
    checkpoint: tuple[dict[str, Any], list[str]], data: st.DataObject
) -> None:
    state = _innermost(*checkpoint)
    name = data.draw(st.sampled_from([k for k in state if not k.endswith("tracked")]))
    change = data.draw(st.sampled_from(["removed", "renamed", "reshaped", "doubled"]))
    value = state[name] if change == "doubled" else state.pop(name)
    if change == "reshaped":
        state[name] = data.draw(st.sampled_from([value[:1], value[None], value.flatten()[1:]]))
    elif change != "removed":
        state[f"{name}_too"] = value
    text = _refused(WeightsError, checkpoint[0])
    assert text.startswith("w.pth does not fit net: ")


# Files as they are found


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod"])
def test_a_wrapper_around_a_part(wrapper: str) -> None:
    state = _state()
    assert torch.equal(_loaded({"state_dict": _inside(state, wrapper)})[0], _expected(state))


def test_averaged_models(tmp_path: Path) -> None:
    net = Net()
    net.load_state_dict(_state())
    averaged = AveragedModel(net)
    logits, said = _loaded(averaged.state_dict(), path=tmp_path / "swa.pth")
    assert torch.equal(logits, _expected(_state()))
    assert said == "swa.pth"  # the counter beside it is no weight that was left out


def test_of_averaged_and_plain_weights_the_averaged_ones_are_taken_and_named(
    tmp_path: Path,
) -> None:
    plain, averaged = _state(1), _state(2)
    for key in ("model_ema", "params_ema", "state_dict_ema", "ema", "swa_model", "ema.module"):
        for held in ({"model": plain, key: averaged}, {key: averaged, "model": plain}):
            logits, said = _loaded(held, path=tmp_path / "w.pth")
            assert torch.equal(logits, _expected(averaged))
            assert said == f"w.pth ({key.removesuffix('.module')})"
    in_one = _prefixed(plain, "model.") | _prefixed(averaged, "ema_model.module.")
    logits, said = _loaded({"state_dict": in_one}, path=tmp_path / "w.pth")
    assert (torch.equal(logits, _expected(averaged)), said) == (
        True,
        "w.pth (state_dict.ema_model)",
    )
    unfit = {"model": plain, "ema": {"shadow": [*averaged.values()]}}  # no names: it fits nothing
    assert torch.equal(_loaded(unfit)[0], _expected(plain))


def test_several_that_fit_equally_are_named_unless_they_are_equal() -> None:
    held = {"last": _state(1), "best": _state(2)}
    assert _refused(WeightsError, held) == (
        "w.pth holds several weights that fit: 'last', 'best'. Choose one: --weights w.pth#last"
    )
    assert torch.equal(_loaded(held | {"best": _state(1)})[0], _expected(_state(1)))
    shared = _state(1)
    assert torch.equal(_loaded({"last": shared, "best": shared})[0], _expected(shared))


def test_a_part_can_be_asked_for(tmp_path: Path) -> None:
    plain, averaged, inner = _state(1), _state(2), _prefixed(_state(3), "encoder_k.module.")
    held = {"model": plain, "model_ema": averaged, "moco": inner | _prefixed(plain, "encoder_q.")}
    torch.save(held, tmp_path / "w #1.pth")
    for part, state in (("model", plain), ("model_ema", averaged), ("encoder_k", _state(3))):
        logits, said = _loaded(None, path=tmp_path / f"w #1.pth#{part}")
        assert torch.equal(logits, _expected(state))
        assert said == f"w #1.pth ({'moco.' * (part == 'encoder_k')}{part})"
    assert _refused(WeightsError, None, path=tmp_path / "w #1.pth#encoder_x") == (
        f"{tmp_path}/w #1.pth keeps nothing under 'encoder_x'. Close: 'encoder_k', 'encoder_q'."
    )
    assert _refused(WeightsError, None, path=tmp_path / "w 1.pth#model") == (
        f"No weights '{tmp_path}/w 1.pth'. Close: 'w #1.pth'."
    )


def test_weights_beside_others_under_their_prefix_are_named(tmp_path: Path) -> None:
    state = _state()
    held = {"state_dict": _prefixed(state, "net.") | {"criterion.weight": torch.ones(5)}}
    logits, said = _loaded(held, path=tmp_path / "lightning.ckpt")
    assert torch.equal(logits, _expected(state))
    assert said == "lightning.ckpt (state_dict.net)"


def _one(name: str) -> nn.Module:
    return Holder(nn.Conv2d(3, 2, 1, bias=False), name)


def test_a_network_that_holds_the_saved_one() -> None:
    state = _state()
    holder = Holder(Holder(Net(), "net"), "model")
    assert torch.equal(_loaded({"params": state}, holder)[0], _expected(state))
    text = _refused(WeightsError, {"1.weight": torch.rand(2, 3, 1, 1)}, net=_one("0"))
    assert text.endswith("the file lacks '0.weight'; the network lacks '1.weight'")


def test_tied_weights_are_saved_under_one_name_at_least() -> None:
    def tied() -> nn.Sequential:
        one = nn.Conv2d(3, 3, 3, padding=1)
        return nn.Sequential(one, nn.ReLU(), one)

    state = _state(0, tied())
    del state["2.weight"], state["2.bias"]
    logits, _ = _loaded(state, tied())
    assert torch.equal(
        logits,
        _expected({**state, "2.weight": state["0.weight"]} | {"2.bias": state["0.bias"]}, tied()),
    )


def test_names_of_before_are_translated_by_the_network_itself() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    old = nn.Sequential(nn.Conv2d(3, 4, 3))
    g, v = torch.rand(4, 1, 1, 1), torch.rand(4, 3, 3, 3)
    held = {"0.bias": torch.rand(4), "0.weight_g": g, "0.weight_v": v}
    logits, _ = _loaded({"model": _prefixed(held, "module.")}, net)
    kernel = g * v / v.flatten(1).norm(dim=1).view(4, 1, 1, 1)
    expected = _expected({"0.weight": kernel, "0.bias": held["0.bias"]}, old)
    torch.testing.assert_close(logits, expected)
    del held["0.weight_g"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    _refused(WeightsError, {"model": held}, net=net)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


class Packed(nn.Module):
    """Saves its kernel as quantized layers do: as no tensor, in a form that has a version."""

    _version = 3

    def __init__(self) -> None:
        super().__init__()
        self.kernel = (torch.zeros(3), "zeros")

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}_packed"] = self.kernel

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *_: Any) -> None:
        assert metadata.get("version") == 3
        self.kernel = state[f"{prefix}_packed"]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.kernel[0][:, None, None]


def test_what_is_no_tensor_is_loaded_with_its_version_or_missed(tmp_path: Path) -> None:
    saved = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), Packed()))
    saved.module[1].kernel = (torch.rand(3), "random")
    net = nn.Sequential(nn.Conv2d(3, 3, 1), Packed())
    logits, _ = _loaded({"model": saved.state_dict()}, net, tmp_path / "w.pth")
    assert torch.equal(logits, saved.module(IMAGES))
    tensors = {"0.weight": torch.rand(3, 3, 1, 1), "0.bias": torch.rand(3)}
    assert _refused(WeightsError, tensors, net=net) == (
        "w.pth does not fit net: the file lacks '1._packed'"
    )


# Shards


def _sharded(folder: Path, kind: str) -> tuple[list[Path], Path]:
    state = _state()
    stem, suffix = ("model", ".safetensors") if kind == "safetensors" else ("pytorch_model", ".bin")
    files = [folder / f"{stem}-0000{part}-of-00002{suffix}" for part in (1, 2)]
    names = list(state)
    for file, part in zip(files, (names[:3], names[3:]), strict=True):
        save = save_file if kind == "safetensors" else torch.save
        save({name: state[name] for name in part}, file)
    index = folder / f"{stem}{suffix}.index.json"
    placed = {name: files[position >= 3].name for position, name in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return files, index


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_an_index_or_any_shard_stands_for_all(tmp_path: Path, kind: str) -> None:
    files, index = _sharded(tmp_path, kind)
    for path in (index, *files):
        assert torch.equal(_loaded(None, path=path)[0], _expected(_state()))
    index.unlink()
    for path in files:
        assert torch.equal(_loaded(None, path=path)[0], _expected(_state()))


def test_what_lacks_of_shards_is_said(tmp_path: Path) -> None:
    files, index = _sharded(tmp_path, "safetensors")
    files[1].unlink()
    for path in (index, files[0]):
        assert _refused(WeightsError, None, path=path) == (
            f"{index} names the shard {files[1].name!r}, which is not beside it"
        )
    index.unlink()
    assert _refused(WeightsError, None, path=files[0]).endswith(
        "'features.1.running_mean' and 3 more; it is one of 2 shards: put the others beside it"
    )
    index.write_text('{"classes": []}')
    (tmp_path / "other.index.json").write_text("[]")
    assert "it is one of 2 shards" in _refused(WeightsError, None, path=files[0])
    assert _refused(WeightsError, None, path=index) == (
        f"{index} is not an index of weights in shards (it has no 'weight_map'). Give the file of "
        "weights itself"
    )


# Lazy layers


def _lazy() -> nn.Sequential:
    body = [nn.LazyConv2d(4, 3, groups=1), nn.LazyBatchNorm2d(), nn.LazyConvTranspose2d(6, 2)]
    return nn.Sequential(*body, nn.Flatten(), nn.LazyLinear(5))


def _lazy_state(seed: int = 0) -> tuple[dict[str, Tensor], nn.Module]:
    net = _lazy()
    net(IMAGES)
    return _state(seed, net), net


def test_lazy_layers_take_their_sizes_from_the_weights() -> None:
    state, net = _lazy_state()
    fresh = _lazy()
    logits, _ = _loaded({"state_dict": state}, fresh)
    assert torch.equal(logits, _expected(state, net))
    assert [type(layer) for layer in fresh] == [type(layer) for layer in net]
    assert (fresh[0].in_channels, fresh[2].in_channels) == (3, 4)
    for name in ("0.weight", "2.weight", "4.weight"):
        wrong = {**state, name: state[name].transpose(0, -1).contiguous()}
        assert f"{name!r} is (" in _refused(WeightsError, wrong, net=_lazy())
        _refused(WeightsError, {k: v for k, v in state.items() if k != name}, net=_lazy())


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_network_with_weights_that_has_not_run_is_left_lazy() -> None:
    state, net = _lazy_state()
    given = _lazy()
    given.load_state_dict(state)
    model = cs.load(given)
    assert model.input.channels == 3
    assert torch.equal(model.logits(IMAGES), _expected(state, net))
    assert type(given[0]) is nn.LazyConv2d


# Extra state


class Extra(Net):
    """A network that keeps more than tensors; ``epoch`` changes what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch: Any = 0

    def get_extra_state(self) -> Any:
        return {"epoch": self.epoch}

    def set_extra_state(self, state: Any) -> None:
        self.epoch = state["epoch"]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.epoch


def test_extra_state_is_restored_where_the_file_has_it(tmp_path: Path) -> None:
    saved, state = Extra(), _state()
    saved.epoch = 7
    held = {**_prefixed(state, "module."), "module._extra_state": saved.get_extra_state()}
    logits, said = _loaded({"model": held}, Extra(), tmp_path / "w.pth")
    assert torch.equal(logits, _expected(state) + 7)
    assert said == "w.pth"
    logits, said = _loaded({"model": state}, Extra(), tmp_path / "w.pth")
    assert torch.equal(logits, _expected(state))
    assert said == "w.pth (without extra state)"
    assert "the network lacks '_extra_state'" in _refused(
        WeightsError, {**state, "_extra_state": {"epoch": 1}}
    )
    assert _refused(WeightsError, {**state, "_extra_state": 3}, net=Extra()) == (
        "w.pth cannot be loaded: TypeError: 'int' object is not subscriptable"
    )


# What stands beside the weights is not made


@dataclass
class Settings:
    rate: float = 0.1

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("made")


class Record(dict):  # type: ignore[type-arg]
    """As the hyperparameters of Lightning."""


def test_objects_beside_the_weights_are_not_made(tmp_path: Path) -> None:
    state, record, before = _state(), Record(lr=0.1), torch.serialization.get_safe_globals()
    record.note = "x"  # type: ignore[attr-defined]
    beside: list[Any] = [
        argparse.Namespace(lr=0.1, path=Path("a")),
        np.float32(3),
        np.arange(3),
        np.dtype("f8"),
        pathlib.PurePosixPath("a/b"),
        datetime(2024, 1, 1, tzinfo=UTC),
        defaultdict(list, {"a": [1]}),
        defaultdict(Record, {"a": record}),
        Settings(),
        {Settings: 1},
        partial(torch.optim.SGD, lr=0.1),
        {1, 2},
        frozenset({3}),
        (torch.float16, torch.device("cpu"), torch.Size([1])),
    ]
    for value in beside:
        held = {"state_dict": state, "beside": value}
        assert torch.equal(_loaded(held, path=tmp_path / "w.pth")[0], _expected(state)), value
    everything = {"state_dict": defaultdict(None, state), "beside": beside}
    for zipped in (True, False):
        torch.save(everything, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        assert torch.equal(_loaded(None, path=tmp_path / "w.pth")[0], _expected(state))
    assert set(torch.serialization.get_safe_globals()) == set(before)


class _Call:
    """Calls something when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (torch.load, "torch.serialization.load"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_call_beside_the_weights_is_refused_and_not_made(
    tmp_path: Path, function: Any, name: str, zipped: bool
) -> None:
    held = {
        "state_dict": _state(),
        "beside": _Call(function, f"open({str(tmp_path / 'ran')!r}, 'w')"),
    }
    torch.save(held, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert f"wants to run code when opened ({name})" in _refused(
        UnsafeFile, None, path=tmp_path / "w.pth"
    )
    assert not (tmp_path / "ran").exists()


def test_other_pickle_protocols_are_read_or_named(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "w.pth", pickle_protocol=3)
    assert torch.equal(_loaded(None, path=tmp_path / "w.pth")[0], _expected(_state()))
    torch.save(_state(), tmp_path / "w.pth", pickle_protocol=4)
    assert _refused(WeightsError, None, path=tmp_path / "w.pth") == (
        f"{tmp_path}/w.pth was saved with a pickle protocol that cannot be read without running "
        "code. Save it again with torch's own: torch.save(model.state_dict(), ...)"
    )


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_networks_that_are_wrapped_themselves(tmp_path: Path, wrap: Any) -> None:
    for held in (_state(), {"net": _prefixed(_state(), "module.")}):
        net = Net().eval()
        fit_weights(wrap(net), Weights("w.pth", held), "net")
        assert torch.equal(net(IMAGES), _expected(_state()))


def test_whole_models_are_refused_wherever_they_are(tmp_path: Path) -> None:
    moments = {"state": {0: {"exp_avg": torch.rand(3)}}}
    for held in (Net(), {"model": Net()}, {"ema": Net(), "optimizer": moments}):
        text = _refused(UnsafeFile, held, path=tmp_path / "w.pth")
        assert text == (
            f"{tmp_path}/w.pth wants to run code when opened ({Net.__module__}.Net), so it is not"
            ". Save the weights alone: torch.save(model.state_dict(), ...), and give the network "
            "with -m"
        )
    held = {"model": Net(), "state_dict": _state()}  # its weights stand beside it
    assert torch.equal(_loaded(held, path=tmp_path / "w.pth")[0], _expected(_state()))


def test_attributes_that_a_file_gives_to_its_mappings_are_not_used(tmp_path: Path) -> None:
    class Shadowed:
        def __reduce__(self) -> Any:
            shadows = dict.fromkeys(("items", "keys", "values", "_metadata"), torch.Size([1]))
            return OrderedDict, (), shadows, None, iter(_state().items())

    for held in (Shadowed(), {"state_dict": Shadowed()}):
        logits, _ = _loaded(held, path=tmp_path / "w.pth")
        assert torch.equal(logits, _expected(_state()))
    circle: dict[str, Any] = {"state_dict": _state()}
    circle["again"] = [circle]
    assert torch.equal(_loaded(circle, path=tmp_path / "w.pth")[0], _expected(_state()))


# By name, with weights from a file


_FILE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
"""


def test_the_title_says_what_was_taken(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(_FILE)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    plain, averaged = _state(1, net), _state(2, net)
    torch.save({"model": plain, "model_ema": averaged}, tmp_path / "both.pth")
    torch.save({"net": _prefixed(plain, "module.")}, tmp_path / "one.pth")
    both = cs.load(f"{tmp_path}/net.py:make", weights=tmp_path / "both.pth")
    assert torch.equal(both.logits(IMAGES), _expected(averaged, net))
    assert both.title == f"{tmp_path}/net.py:make · weights both.pth (model_ema)"
    one = cs.load(f"{tmp_path}/net.py:make", weights=tmp_path / "one.pth")
    assert torch.equal(one.logits(IMAGES), _expected(plain, net))
    assert one.weights_file == "one.pth"
