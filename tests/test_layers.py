from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convscope._errors import ConvscopeError, UnknownLayer, UsageError
from convscope._layers import Address, Layer, Layers, file_name, parse_address


def told(raised: pytest.ExceptionInfo[ConvscopeError]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


def conv(path: str, *shape: int, **more: object) -> Layer:
    return Layer(path, "Conv2d", shape, 100, ("conv",), **more)  # type: ignore[arg-type]


@pytest.fixture
def layers() -> Layers:
    return Layers(
        [
            conv("conv1", 64, 112, 112),
            Layer("/relu", "relu", (64, 112, 112), function=True),
            Layer("layer4", "Sequential", (512, 7, 7), 9000, container=True),
            Layer("layer4.0", "BasicBlock", (512, 7, 7), 9000, depth=1, container=True),
            conv("layer4.0.conv1", 512, 7, 7, depth=2),
            Layer("layer4.0/add", "add", (512, 7, 7), depth=2, function=True),
            conv("layer4.0.conv2", 512, 7, 7, depth=2),
            Layer("pool", "MaxPool2d", (512, 3, 3), families=("pool",)),
            Layer("pool#2", "MaxPool2d", (512, 1, 1), families=("pool",)),
            Layer("odd", "Splitter", None),
            Layer("fc", "Linear", (1000,), 513_000, ("linear",)),
        ],
        "torchvision:resnet18",
    )


# --- addresses ------------------------------------------------------------------------------------

_paths = st.from_regex(r"[A-Za-z_/][A-Za-z0-9_./#\-\[\]*? +=]{0,24}", fullmatch=True).filter(
    lambda path: path == path.strip()
)
_numbers = st.integers(0, 10**9)
_addresses = st.one_of(
    st.builds(Address, _paths),
    st.builds(Address, _paths, _numbers),
    st.builds(Address, _paths, _numbers, st.tuples(_numbers, _numbers)),
)


@given(_addresses)
def test_an_address_reads_back_as_it_was_written(address: Address) -> None:
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("features.5", Address("features.5")),
        ("block2_conv1:3", Address("block2_conv1", 3)),
        (" layer1.0/add:12@3,4 ", Address("layer1.0/add", 12, (3, 4))),
        ("/relu#2:0", Address("/relu#2", 0)),
        ("block2_conv1/pre:007", Address("block2_conv1/pre", 7)),
    ],
)
def test_parse_address(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":3",
        "conv1:",
        "conv1:-1",
        "conv1@3,4",
        "conv1:3@4",
        "conv1:3@4,5,6",
        "conv1:3@4,-5",
        "conv1:3@",
        "conv1:٣@1,1",
        "a\nb:3",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_address(text)
    assert told(raised) == (
        f"{text!r} is not an address. Write PATH, PATH:CHANNEL or PATH:CHANNEL@Y,X, "
        "for example features.5:12@3,4"
    )


@pytest.mark.parametrize("wrong", [("a", -1), ("a", 1, (0, -1)), ("a", None, (0, 0))])
def test_an_address_that_could_not_be_written_cannot_be_made(wrong: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match="is not an address: both count from 0"):
        Address(*wrong)  # type: ignore[arg-type]


@given(st.text())
def test_a_file_name_can_be_read_back_and_stays_in_its_folder(text: str) -> None:
    name = file_name(text)
    assert unquote(name) == text
    assert not set(name) & set('/\\:*?"<>| \0\n')
    assert name.isascii()


@given(_paths, _paths)
def test_two_layers_never_share_a_file_name(one: str, other: str) -> None:
    assume(one != other)
    assert file_name(one) != file_name(other)


def test_file_names_stay_readable() -> None:
    assert file_name("block2_conv1") == "block2_conv1"
    assert file_name("pool#2:3@4,5") == "pool#2%3A3@4,5"
    assert file_name("/relu") == "%2Frelu"
    assert file_name("layer1.0/add") == "layer1.0%2Fadd"


# --- selection ------------------------------------------------------------------------------------


def _selected(layers: Layers, *wanted: str) -> list[str]:
    return [layer.path for layer in layers.select(wanted)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["conv1"], ["conv1"]),
        (["layer4.*"], ["layer4.0", "layer4.0.conv1", "layer4.0/add", "layer4.0.conv2"]),
        (["layer?.0.conv[12]"], ["layer4.0.conv1", "layer4.0.conv2"]),
        (["kind=conv"], ["conv1", "layer4.0.conv1", "layer4.0.conv2"]),
        (["KIND=Conv2D"], ["conv1", "layer4.0.conv1", "layer4.0.conv2"]),
        (["kind=pool"], ["pool", "pool#2"]),
        (["kind=add"], ["layer4.0/add"]),
        (["/relu"], ["/relu"]),
        (
            ["fc", "conv1", "kind=conv", " conv1 "],
            ["conv1", "layer4.0.conv1", "layer4.0.conv2", "fc"],
        ),
    ],
)
def test_select(layers: Layers, wanted: list[str], found: list[str]) -> None:
    assert _selected(layers, *wanted) == found


def test_one_name_needs_no_list(layers: Layers) -> None:
    assert [layer.path for layer in layers.select("pool")] == ["pool"]


def test_an_exact_path_comes_before_a_glob_and_a_glob_before_a_kind() -> None:
    layers = Layers(
        [
            conv("block*", 1, 2, 2),
            conv("block1", 1, 2, 2),
            conv("b[1]", 1, 2, 2),
            conv("b1", 1, 2, 2),
            conv("kind=conv", 1, 2, 2),
            conv("conv2d", 1, 2, 2),
        ],
        "m",
    )
    assert _selected(layers, "block*") == ["block*"]
    assert _selected(layers, "block?") == ["block*", "block1"]
    assert _selected(layers, "b[1]") == ["b[1]"]
    assert _selected(layers, "b[[]1]") == ["b[1]"]
    assert _selected(layers, "kind=conv") == ["kind=conv"]
    assert _selected(layers, "conv2d") == ["conv2d"]


def test_the_near_miss_of_the_design() -> None:
    layers = Layers(
        [conv("conv1", 1, 2, 2), conv("layer4.0.conv2", 1, 2, 2)], "torchvision:resnet18"
    )
    with pytest.raises(UnknownLayer) as raised:
        layers.select("layer4.conv2")
    assert told(raised) == (
        "No layer 'layer4.conv2' in resnet18. Close: 'layer4.0.conv2'. "
        "See: convscope layers -m torchvision:resnet18"
    )


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("layer4.conv2", "Close: 'layer4.0.conv2', 'layer4.0.conv1'. See:"),
        ("CONV1", "Close: 'conv1'. See:"),
        ("zzz*", "No layer 'zzz*' in resnet18. See:"),
        ("quite.other.names.conv2", "Close: 'layer4.0.conv2'. See:"),
        ("kind=cnov", "No layer 'kind=cnov' in resnet18. Close: 'conv', 'conv2d'"),
        ("kind=xyz", "Kinds: add, basicblock, conv, conv2d, linear, maxpool2d, pool, relu, seq"),
    ],
)
def test_an_unknown_item_is_an_error_even_beside_a_known_one(
    layers: Layers, item: str, said: str
) -> None:
    with pytest.raises(UnknownLayer) as raised:
        layers.select(["conv1", item])
    assert said in told(raised)
    assert told(raised).endswith(" See: convscope layers -m torchvision:resnet18")


def test_the_next_command_is_one_that_works() -> None:
    for model, command in (
        ("demo", "convscope layers -m demo"),
        ("my nets/a.keras", "convscope layers -m 'my nets/a.keras'"),
        ("ResNet", "model.layers"),  # a live module: no command can name it
    ):
        with pytest.raises(UnknownLayer) as raised:
            Layers([conv("a", 1, 2, 2)], model)["zzz"]
        assert told(raised).endswith(f"See: {command}")


def test_nothing_asked_for_is_an_error(layers: Layers) -> None:
    with pytest.raises(UsageError, match="kind=conv"):
        layers.select([])


# --- one unit -------------------------------------------------------------------------------------


def test_at(layers: Layers) -> None:
    layer, where = layers.at("layer4.0.conv2:511@6,6")
    assert layer.path == "layer4.0.conv2"
    assert where == Address("layer4.0.conv2", 511, (6, 6))
    assert layers.at(Address("fc", 999))[0].kind == "Linear"
    assert layers.at("odd")[0].shape is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "layer4.0.conv2:512",
            "No channel 512 in 'layer4.0.conv2' of resnet18. "
            "Channels: 0 to 511. See: convscope layers -m torchvision:resnet18",
        ),
        ("odd:0", "No channel 0 in 'odd' of resnet18. Channels: none."),
        (
            "pool:0@3,0",
            "No position 3,0 in 'pool' of resnet18: its output is 3×3. Last: pool:0@2,2",
        ),
        ("pool:0@0,3", "No position 0,3 in 'pool'"),
        ("fc:0@0,1", "No position 0,1 in 'fc' of resnet18: its output is 1×1."),
        ("conv3:1", "No layer 'conv3' in resnet18. Close: 'conv1'."),
    ],
)
def test_at_refuses_what_is_not_there(layers: Layers, address: str, said: str) -> None:
    with pytest.raises(UnknownLayer) as raised:
        layers.at(address)
    assert told(raised).startswith(said)


def test_a_path_that_looks_like_an_address_is_found_first() -> None:
    layers = Layers([conv("a", 4, 2, 2), conv("a:1", 4, 2, 2)], "m")
    assert layers.at("a:1")[1] == Address("a:1")
    assert layers.at("a:2")[1] == Address("a", 2)


# --- a few layers that show the depth -------------------------------------------------------------


def _spread(sides: list[int], most: int = 6) -> list[str]:
    layers = Layers([conv(f"c{k}", 8, side, side) for k, side in enumerate(sides)], "m")
    return [layer.path for layer in layers.representative(most)]


@pytest.mark.parametrize(
    ("sides", "most", "chosen"),
    [
        # VGG16 without its last block
        ([224] * 2 + [112] * 2 + [56] * 3 + [28] * 3, 6, ["c1", "c3", "c6", "c9"]),
        # more sizes than wanted: the edges of the first stay
        ([149, 147, 73, 71, 35, 17, 8], 3, ["c0", "c3", "c6"]),
        # one size throughout
        ([28] * 5, 3, ["c0", "c2", "c4"]),
        ([28], 6, ["c0"]),
        ([28, 14], 1, ["c1"]),
        # down and up again
        ([8, 4, 2, 4, 8], 6, ["c2", "c3", "c4"]),
    ],
)
def test_spread(sides: list[int], most: int, chosen: list[str]) -> None:
    assert _spread(sides, most) == chosen


def test_spread_without_convolutions_or_maps() -> None:
    pool, fc = Layer("pool", "MaxPool2d", (4, 2, 2)), Layer("fc", "Linear", (9,))
    assert Layers([pool, fc], "m").representative() == [pool]
    assert Layers([fc], "m").representative() == [fc]
    assert Layers([], "m").representative() == []


# --- as a sequence, as a table --------------------------------------------------------------------


def test_a_sequence_by_index_slice_and_path(layers: Layers) -> None:
    assert len(layers) == 11
    assert layers[0].path == "conv1"
    assert layers["fc"] is layers[-1]
    assert [layer.path for layer in layers[:2]] == ["conv1", "/relu"]
    assert "fc" in layers
    assert layers[0] in layers
    assert "fcc" not in layers
    with pytest.raises(UnknownLayer, match=r"No layer 'fcc' in resnet18\. Close: 'fc'"):
        layers["fcc"]


def test_a_layer_tells_its_shape(layers: Layers) -> None:
    assert (layers["conv1"].channels, layers["conv1"].is_map) == (64, True)
    assert layers["conv1"].shape_text() == "64×112×112"
    assert (layers["fc"].channels, layers["fc"].is_map) == (1000, False)
    assert (layers["odd"].channels, layers["odd"].is_map) == (0, False)
    assert layers["odd"].shape_text() == "–"


def test_the_table(layers: Layers) -> None:
    title, head, *rows = repr(layers).splitlines()
    assert title == "torchvision:resnet18: 11 layers"
    assert head.split() == ["layer", "kind", "output", "parameters"]
    assert rows[-1].split() == ["fc", "Linear", "1000", "513,000"]
    assert rows[4].startswith("    layer4.0.conv1  Conv2d")
    assert len({len(row) for row in (head, *rows)}) == 1
    assert repr(Layers([], "m")).startswith("m: 0 layers")


def test_the_table_in_a_notebook_is_sound_html() -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.cells: list[str] = []

        def handle_starttag(self, tag: str, _: object) -> None:
            self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

        def handle_data(self, text: str) -> None:
            self.cells.append(text)

    reader = Reader()
    page = Layers([conv("<b>", 1, 2, 2)], "<script>")._repr_html_()
    reader.feed(page)
    assert reader.open == []
    assert reader.cells[0] == "<script>"
    assert reader.cells[5:] == ["<b>", "Conv2d", "1×2×2", "100"]
    assert not re.search("<script>|<b>", page)


def test_spread_of_a_transformer_is_its_blocks() -> None:
    layers = [Layer("patches", "Conv2d", (8, 4, 4), 100, ("conv",))]
    for k in range(8):
        layers.append(Layer(f"blocks.{k}", "Block", (8, 4, 4), 500, container=True, depth=1))
        layers.append(Layer(f"blocks.{k}.mlp", "Mlp", (8, 4, 4), 300, container=True, depth=2))
        layers.append(Layer(f"blocks.{k}.mlp.fc", "Linear", (32, 4, 4), 150, depth=3))
    chosen = [layer.path for layer in Layers(layers, "vit").representative(3)]
    assert chosen == ["blocks.0", "blocks.4", "blocks.7"]
