"""The picture on a card: small, well-formed whatever a file claims, and a true image of its cells."""

from __future__ import annotations

import random
import re
from typing import Any
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy.gateway.pages.thumbnail import CELLS, draw

SVG = "{http://www.w3.org/2000/svg}"
PLACE = re.compile(r"M(\d+) (\d+)h0")
texts = st.text(st.sampled_from('#0f"<&\n\udcff'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from(["#12ab9F", '#000000"/>']),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=2),
    max_leaves=4,
)
lists = st.lists(st.integers(-2, 1002) | values, max_size=12)
previews = st.fixed_dictionaries({}, optional=dict.fromkeys(("x", "y", "color", "palette"), lists | values))


def paths(picture: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """Colour and places of each path, from the lowest to the uppermost."""
    found = ET.fromstring(picture).iter(f"{SVG}path")  # noqa: S314 - our own picture
    return [(path.attrib["stroke"], [(int(x), int(y)) for x, y in PLACE.findall(path.attrib["d"])]) for path in found]


def test_two_thousand_cells_in_thirty_colours_stay_below_25_kilobytes() -> None:
    chance = random.Random(1)
    cells = range(CELLS + 500)
    picture = draw(
        {
            "x": [chance.randint(0, 1000) for _ in cells],
            "y": [chance.randint(0, 1000) for _ in cells],
            "color": [chance.randrange(30) for _ in cells],
            "palette": [f"#0000{n:02x}" for n in range(30)],
        }
    )
    assert len(picture.encode()) < 25_000
    assert len(paths(picture)) == 30
    assert CELLS * 0.99 < sum(len(places) for _, places in paths(picture)) <= CELLS


def test_y_points_up_and_each_colour_is_one_path() -> None:
    picture = draw({"x": [0, 1000, 500], "y": [0, 1000, 250], "color": [0, 1, 0], "palette": ["#aa0000", "#00bb00"]})
    assert {colour: set(places) for colour, places in paths(picture)} == {
        "#aa0000": {(0, 1000), (500, 750)},
        "#00bb00": {(1000, 0)},
    }


def test_a_rare_colour_lies_on_top() -> None:
    picture = draw({"x": [1, 2, 3], "y": [1, 2, 3], "color": [1, 0, 1], "palette": ["#111111", "#222222"]})
    assert [colour for colour, _ in paths(picture)] == ["#222222", "#111111"]


def test_cells_without_a_colour_of_their_own_are_grey() -> None:
    palette = ["red", "#12345", '#123456"', None, 7]
    picture = draw({"x": [1] * 8, "y": list(range(8)), "color": [-1, 0, 1, 2, 3, 4, 5, True], "palette": palette})
    assert [(colour, len(places)) for colour, places in paths(picture)] == [("#8a949e", 8)]


def test_values_that_are_no_place_in_the_picture_are_left_out() -> None:
    wrong = [-1, 1001, 0.5, float("nan"), True, None, "5", [5]]
    picture = draw({"x": [*wrong, 5], "y": [5] * 9, "color": [0] * 9, "palette": ["#123456"]})
    assert paths(picture) == [("#123456", [(5, 995)])]


def test_nothing_to_draw_is_an_empty_picture() -> None:
    assert paths(draw({})) == []


@given(previews)
def test_whatever_a_file_claims_the_picture_is_well_formed_and_4_to_3(preview: dict[str, Any]) -> None:
    root = ET.fromstring(draw(preview))  # noqa: S314 - our own picture
    assert {each.tag for each in root.iter()} <= {f"{SVG}svg", f"{SVG}g", f"{SVG}path"}
    assert {key for each in root.iter() for key in each.attrib} <= {
        "viewBox", "width", "height", "fill", "stroke", "d", "stroke-linecap", "stroke-width", "stroke-opacity",
    }  # fmt: skip
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert abs(width / height - 4 / 3) < 0.001
    for _, places in paths(draw(preview)):
        assert all(left <= x <= left + width and top <= y <= top + height for x, y in places)
