"""What is asked under load: how many questions, about which pictures, in which order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from PIL import Image

from vicrop_engine.errors import ExamplesError, SettingError
from vicrop_engine.examples import Example, signs
from vicrop_engine.images.picture import open_picture
from vicrop_engine.measure.bench.workload import HIGH_RES, SHORT, Query, Workload, draw_queries


def draw(**workload: Any) -> tuple[Query, ...]:
    return draw_queries(Workload(**workload), signs())


@pytest.mark.parametrize(("requests", "reuse"), [(1, 1), (7, 4), (32, 4), (12, 6)])
def test_every_picture_gets_its_questions_once_each(requests: int, reuse: int) -> None:
    queries = draw(requests=requests, images_reuse=reuse, users=2)
    assert [query.number for query in queries] == list(range(requests))
    assert max(Counter(query.picture for query in queries).values()) == min(requests, reuse)
    assert len({(query.picture, query.question) for query in queries}) == requests
    assert len({query.image for query in queries}) == len({query.picture for query in queries})


def test_users_ask_in_turn_about_pictures_of_their_own() -> None:
    pictures = [query.picture for query in draw(requests=16, images_reuse=4, users=2)]
    assert pictures == [0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3]


def test_the_seed_decides() -> None:
    assert draw(requests=8, seed=3) == draw(requests=8, seed=3)
    assert draw(requests=8, seed=3) != draw(requests=8, seed=4)


@pytest.mark.parametrize(("share", "tiled"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_a_share_of_the_pictures_is_looked_at_in_tiles(share: float, tiled: int) -> None:
    queries = draw(requests=8, images_reuse=1, high_res_share=share)
    assert Counter(query.kind for query in queries) == Counter({HIGH_RES: tiled, SHORT: 8 - tiled})
    assert {query.high_res for query in queries} <= {"on", "off"}


def test_a_list_gone_through_comes_again_with_other_pixels(tmp_path) -> None:
    path = tmp_path / "one.png"
    Image.linear_gradient("L").convert("RGB").save(path)
    examples = [(path, Example("one.png", f"Question {number}?", (0, 0, 9, 9))) for number in range(2)]
    queries = draw_queries(Workload(requests=6, images_reuse=2, users=1), examples)
    sizes = [open_picture(query.image).size for query in queries]
    assert sizes == [(256, 256)] * 2 + [(254, 254)] * 2 + [(252, 252)] * 2


def test_fresh_queries_are_the_same_questions_on_pictures_never_seen() -> None:
    workload = Workload(requests=200, images_reuse=4)
    drawn = [draw_queries(workload, signs(), fresh=fresh) for fresh in range(3)]
    assert len({tuple(query.question for query in queries) for queries in drawn}) == 1
    assert len({query.image for queries in drawn for query in queries}) == 3 * 50


def test_more_questions_than_any_picture_has_are_refused() -> None:
    with pytest.raises(ExamplesError, match="no picture of the list has 7 questions, the most is 6"):
        draw(requests=8, images_reuse=7)


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"images_reuse": 0}, {"users": 0}, {"high_res_share": 1.5}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="wanted"):
        draw(**wrong)
