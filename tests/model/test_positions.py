"""Where tokens stand: text counted alike on all axes, pictures as their family says, text after them."""

from __future__ import annotations

import numpy as np

from vicrop_engine.arrays import Ints
from vicrop_engine.model.packing import Branch, PackedPrompt, PackedStep
from vicrop_engine.model.positions import counted, next_position, positions_of

TEXT, IMAGE = False, True
TWO_BY_THREE: Ints = np.array([[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]])


def test_text_goes_on_behind_the_farthest_of_a_pictures_tokens() -> None:
    got = positions_of(np.array([TEXT, TEXT, *[IMAGE] * 6, TEXT, TEXT]), [TWO_BY_THREE], 10, 3)
    assert got[0].tolist() == [10, 11, *[12] * 6, 15, 16]
    assert got[1].tolist() == [10, 11, 12, 12, 12, 13, 13, 13, 15, 16]
    assert got[2].tolist() == [10, 11, 12, 13, 14, 12, 13, 14, 15, 16]
    assert next_position(got) == 17


def test_two_pictures_and_one_at_the_very_end() -> None:
    is_image = np.array([*[IMAGE] * 6, TEXT, *[IMAGE] * 6])
    got = positions_of(is_image, [TWO_BY_THREE, TWO_BY_THREE], 0, 3)
    assert got[:, 6].tolist() == [3, 3, 3]
    assert got[:, 7].tolist() == [4, 4, 4]
    assert got[:, -1].tolist() == [4, 5, 6]
    assert next_position(got) == 7


def test_pictures_without_positions_of_their_own_are_counted() -> None:
    is_image = np.array([TEXT, IMAGE, IMAGE, TEXT])
    assert positions_of(is_image, [None], 3, 1).tolist() == [[3, 4, 5, 6]]


def test_a_packed_prompt_says_where_its_first_suffix_ends() -> None:
    positions = np.concatenate([counted(5, 3, 3), counted(5, 2, 3)], axis=1)
    block = PackedPrompt(9, 9, (3, 2), positions)
    assert block.next_position == 8
    assert np.array_equal(block.position_ids, positions)
    assert PackedPrompt(9, 9, (3, 2)).next_position == 12


def test_a_branch_stays_behind_or_ahead_of_its_number_of_tokens() -> None:
    early, final = Branch(((0, 9),), -4), Branch(((0, 6),), -4)
    assert (early.position, final.position) == (5, 2)
    positions = np.concatenate((counted(5, 1, 3), 2 + TWO_BY_THREE, counted(5, 1, 3)), axis=1)
    block = PackedStep((early, final), (1, 7), 9, positions)
    grown = block.grown
    assert [branch.position for branch in grown] == [6, 6]
    assert [branch.length for branch in grown] == [10, 13]
    assert PackedStep(grown, (1, 1), 17).position_ids.tolist() == [[6, 6]]
