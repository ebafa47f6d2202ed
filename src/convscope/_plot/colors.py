"""Color tables, themes, and the 256 palette entries every picture is made of.

A picture is an array of palette indices until the very end, so that a 128-map grid is written as an
8-bit palette PNG and never expanded to RGB. The 256 entries are shared out once, here:

    0 … 240     the color map; an odd number, so that 120 is exactly its middle (zero, if signed)
    241 … 251   background → text in ten steps: anti-aliased text, frames, hatching
    252 … 255   NaN, +inf, −inf, spare
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convscope._errors import UsageError, closest

Theme = Literal["light", "dark"]
RGB = tuple[int, int, int]

LEVELS = 241
MIDDLE = 120
BACKGROUND = 241
INK_STEPS = 10
TEXT = BACKGROUND + INK_STEPS
FLAT = BACKGROUND + 2
NAN, POS_INF, NEG_INF = 252, 253, 254

# Far from every color of every table (a test measures it), and from one another.
RESERVED: Mapping[int, RGB] = MappingProxyType(
    {NAN: (255, 0, 255), POS_INF: (0, 255, 255), NEG_INF: (0, 255, 0)}
)
THEMES: Mapping[str, tuple[RGB, RGB]] = MappingProxyType(
    {"light": ((255, 255, 255), (24, 26, 30)), "dark": ((20, 22, 26), (236, 237, 240))}
)

# 256 RGB triples each, base64. viridis and magma: Smith, van der Walt and Firing (CC0), as in
# matplotlib. signed: ours; blue – near-white – red along straight lines of CIE lightness
# (96 in the middle, 28 at both ends), so equal magnitudes look equally strong, in gray print and
# with red-green blindness too.
_VIRIDIS = (
    "RAFURAJVRANXRQVYRQZaRQhbRglcRgteRgxfRg5hRw9iRxFjRxJlRxRmRxVnRxZpRxhqSBlrSBpsSBxuSB1vSB5wSC"
    "BxSCFySCJzSCN0RyV1RyZ2Ryd3Ryh4Ryp5Ryt6Ryx7Ri18Ri98RjB9RjF+RTJ/RTR/RTWARTaBRDeBRDmCQzqDQzuD"
    "QzyEQj2EQj6FQkCFQUGGQUKGQEOHQESHP0WHP0eIPkiIPkmJPUqJPUuJPUyJPE2KPE6KO1CKO1GKOlKLOlOLOVSLOV"
    "WLOFaLOFeMN1iMN1mMNlqMNluMNVyMNV2MNF6NNF+NM2CNM2GNMmKNMmONMWSNMWWNMWaNMGeNMGiNL2mNL2qNLmuO"
    "LmyOLm2OLW6OLW+OLHCOLHGOLHKOK3OOK3SOKnWOKnaOKneOKXiOKXmOKHqOKHqOKHuOJ3yOJ32OJ36OJn+OJoCOJo"
    "GOJYKOJYONJISNJIWNJIaNI4eNI4iNI4mNIomNIoqNIouNIYyNIY2MIY6MII+MIJCMIJGMH5KMH5OLH5SLH5WLH5aL"
    "HpeKHpiKHpmKHpmKHpqJHpuJHpyJHp2IHp6IHp+IHqCHH6GHH6KGH6OGIKSFIKWFIaaFIaeEIqeEI6iDI6mCJKqCJa"
    "uBJqyBJ62AKK5/Ka9/KrB+K7F9LLF9LrJ8L7N7MLR6MrV6M7Z5Nbd4Nrh3OLl2Obl2O7p1Pbt0PrxzQL1yQr5xRL5w"
    "Rb9vR8BuScFtS8JsTcJrT8NpUcRoU8VnVcZmV8ZlWcdkW8hiXslhYMlgYspfZMtdZ8xcacxba81Zbc5YcM5Wcs9VdN"
    "BUd9BSedFRfNJPftJOgdNMg9NLhtRJiNVHi9VGjdZEkNZDktdBldc/l9g+mtg8ndk6n9k4oto3pdo1p9szqtsyrdww"
    "r9wust0std0rt90put4nvd4mv98kwt8ixd8hx+AfyuAezeAdz+Ec0uEb1OEa1+IZ2uIY3OIY3+MY4eMY5OMY5+QZ6e"
    "QZ7OQa7uUb8eUc8+Ue9uYf+OYh+uYi/eck"
)
_MAGMA = (
    "AAADAAAEAAAGAQAHAQEJAQELAgINAgIPAwMRBAMTBAQVBQQXBgUZBwUbCAYdCQcfCgciCwgkDAkmDQooDgoqDwssEA"
    "wvEQwxEg0zFA01FQ44Fg46Fw88GA8/GhBBGxBEHBBGHhBJHxFLIBFNIhFQIxFSJRFVJhFXKBFZKhFcKxFeLRBgLxBi"
    "MBBlMhBnNBBoNQ9qNw9sOQ9uOw9vPA9xPg9yQA9zQg90Qw91RQ92Rw93SBB4ShB5SxB5TRF6TxF7UBJ7UhJ8UxN8VR"
    "N9VxR9WBV+WhV+WxZ+XRd+Xhd/YBh/YRh/Yxl/ZRqAZhqAaBuAaRyAaxyAbB2Abh6Bbx6BcR+Bcx+BdCCBdiGBdyGB"
    "eSKBeiKBfCOBfiSBfySBgSWBgiWBhCaBhSaBhyeBiSiBiiiBjCmAjSmAjyqAkSqAkiuAlCuAlSyAlyx/mS1/mi1/nC"
    "5/ni5+ny9+oS9+ozB+pDB9pjF9pzF9qTJ8qzN8rDN7rjR7sDR7sTV6szV6tTZ5tjZ5uDd4uTd4uzh3vTl3vjl2wDp1"
    "wjp1wzt0xTx0xjxzyD1yyj5yyz5xzT9wzkBw0EFv0UJu00Jt1ENt1kRs10Vr2UZq2kdp3Ehp3Ulo3kpn4Etm4Uxm4k"
    "1l5E5k5VBj5lFi51Ji6FRh6lVg61Zg7Fhf7Vlf7lte7l1d715d8GBd8WFc8mNc82Vc82db9Ghb9Wpb9Wxb9m5b9nBb"
    "93Fb93Nc+HVc+Hdc+Xlc+Xtd+X1d+n9e+oBe+oJf+4Rg+4Zg+4hh+4pi/Ixj/I5j/JBk/JJl/JNm/ZVn/Zdo/Zlp/Z"
    "tq/Z1r/Z9s/aFu/aJv/aRw/qZx/qhz/qp0/qx1/q52/q94/rF5/rN7/rV8/rd9/rl//ruA/ryC/r6D/sCF/sKG/sSI"
    "/saJ/seL/smN/suO/c2Q/c+S/dGT/dKV/dSX/daY/dia/dqc/dyd/d2f/d+h/eGj/OOl/OWm/Oao/Oiq/Oqs/Oyu/O"
    "6w/PCx/PGz/PO1/PW3+/e5+/m7+/q9+/y/"
)
_SIGNED = (
    "Bz+LB0CNB0GPCEORB0STB0WUCEeWCEiYCUqaCUubCkydCk6fCk+hClCiC1KkC1OmC1WoC1apDFerDFmtDVquDVywDV"
    "2yDl60DmC1DmG3D2O5D2S7D2a8D2e+EGjAEGrCEGvDEG3FEW7HEXDIEXHKEnPMEnTOE3bPE3fRE3jTFHrVFHvWFH3Y"
    "FX7aFYDcFYHdFYPfFoThFobiFofkFonmForoF4zpGI7rGI/tGJHuGZLwGZTyGZX0Gpf1HJj3Hpr4IZv5JZ36Kp77L6"
    "D8NKH8OaP8PqT8Q6b8SKf8TKj8UKr8VKv9WK39XK79X7D9Y7H9ZrL9arT9bbX9cLf9c7j9drr9erv9fb39gL79g7/9"
    "hsH9iML9i8T9jsX9kcf9lMj9l8n9mcv9nMz+n87+os/+pNH+p9L+qtP+rdX+r9b+stj+tdn+t9r+utz+vd3+v9/+wu"
    "D+xeH+x+P+yuT+zeb+0Of90+j91+r82uv83ez74e365e/56PD37PH28PL18/Pz8/Pz9fHv9u/r9+3n+Ovj+enf+efb"
    "+uXY++PU++HR/N/N/N3J/dvG/dnD/de//dW8/tO4/tG1/s+y/s2v/sus/smp/sel/sWi/sOf/sGc/r6Z/ryW/rqT/r"
    "iQ/raO/rSL/bKI/bCF/a6C/KyA/Kp9/Kh6+6Z4+6R1+6Jy+qBw+p5t+Zxr+Zpp+Jhm+JZk95Rh95Jf9pBd9o5a9YxY"
    "9IpW9IhU84ZS8oRQ8oJN8YBL8H5J73xH73pF7nhD7XZB7HRA63I+6nA86W466Ww46Go252g15mYz5WQx5GIw42Au4l"
    "4s4Vwr31op3lgo3VYm3FQl21Ij2lAi2U4h10wf1koe1Ugd1EYb00Ma0UEZ0D8Yzz0WzTsVzDkUyzcTyTUSyDMRxjAQ"
    "xS4PxCwOwioNwScMvyULviMKvCAJux0IuRsIuBgHthUHtBMGshAGsA4GrgwGrAoGqgkHqAgHpQgIowgIoAcJngcJnA"
    "cKmQcKlwcLlAcLkgcLkAYLjgYMiwUMiQUM"
)


def _unpack(text: str) -> NDArray[np.uint8]:
    return _frozen(np.frombuffer(base64.b64decode(text), np.uint8).reshape(256, 3))


def _frozen(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array.flags.writeable = False
    return array


TABLES: Mapping[str, NDArray[np.uint8]] = MappingProxyType(
    {
        "viridis": _unpack(_VIRIDIS),
        "magma": _unpack(_MAGMA),
        "gray": _frozen(np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 3)),
        "signed": _unpack(_SIGNED),
    }
)


def known(kind: str, name: str, names: Mapping[str, object]) -> str:
    """``name`` itself where it is one of ``names``; else the error that lists them."""
    if name in names:
        return name
    raise UsageError(f"No {kind} {name!r}.{closest(name, names)} Known: {', '.join(names)}")


def table(cmap: str, levels: int = 256) -> NDArray[np.uint8]:
    """The color map ``cmap`` as ``(levels, 3)`` uint8, resampled where ``levels`` is not 256."""
    colors = TABLES[known("color map", cmap, TABLES)]
    if levels == 256:
        return colors
    at = np.linspace(0, 255, levels)
    columns = [np.interp(at, np.arange(256), colors[:, c]) for c in range(3)]
    return np.rint(np.stack(columns, axis=1)).astype(np.uint8)


def palette(cmap: str, theme: str) -> NDArray[np.uint8]:
    """All 256 palette entries, ``(256, 3)`` uint8; the module docstring says which is which."""
    paper, ink = THEMES[known("theme", theme, THEMES)]
    entries = np.zeros((256, 3), np.uint8)
    entries[:LEVELS] = table(cmap, LEVELS)
    steps = np.linspace(np.array(paper), np.array(ink), INK_STEPS + 1)
    entries[BACKGROUND : TEXT + 1] = np.rint(steps)
    for index, color in RESERVED.items():
        entries[index] = color
    return entries


def contrast(one: RGB, other: RGB) -> float:
    """The WCAG contrast ratio of two colors, 1 … 21."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(color: RGB) -> float:
    parts = [c / 255 for c in color]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
