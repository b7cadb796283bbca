"""What ``population()`` of a task may return: nothing of it is dropped, rounded or guessed."""

import numpy as np
import pytest

from confsim.shadow.population import Population

LABELS = np.tile([0, 1], 5)
LARGEST = 2**63 - 1


def of(**given):
    return Population.of({"label": LABELS, **given}, "task.py")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"examples": float("nan")}, "examples must be a whole number, not nan"),
        ({"examples": 10.5}, "examples must be a whole number, not 10.5"),
        ({"examples": "ten"}, "examples must be a whole number, not 'ten'"),
        ({"examples": np.zeros(2)}, "examples must be a whole number"),
        ({"examples": np.zeros((3, 40))}, "examples must be a whole number"),
        ({"label_names": np.array(1.0)}, "label_names must be a list of texts"),
        ({"label_names": 3}, "label_names must be a list of texts, not 3"),
        ({"label_names": "ab"}, "label_names must be a list of texts, not 'ab'"),
        ({"label": [[1], [1, 2], 3, 4]}, "label is no array"),
        ({"label": np.array([0.0, np.inf] * 5)}, "row 1 is inf"),
        ({"label": np.array([0.0, 1e300] * 5)}, "row 1 is 1e+300"),
        ({"label": np.ma.array(LABELS, mask=LABELS == 1)}, "values that are missing"),
        ({"id": np.array([*range(9), 2**63], np.uint64)}, "row 9 is 9223372036854775808"),
        ({"id": np.array([*range(9), np.inf])}, "row 9 is inf"),
        ({"features": np.zeros((10, 0))}, "features must have at least one column"),
        ({"features": np.full((10, 2), 2**60)}, "integers beyond 2**53"),
        ({"images": np.zeros((10, 0, 3), np.uint8)}, "images must be uint8"),
    ],
)
def test_what_is_refused_is_named(given, message):
    with pytest.raises(ValueError, match=r"population\(\) of task.py: ") as caught:
        of(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_masked_array_without_a_mask_is_an_array():
    assert of(id=np.ma.arange(10)).ids.tolist() == list(range(10))


def test_ids_are_called_whatever_they_are():
    ids = np.array([[1], [1, 2], "a", *range(7)], dtype=object)
    assert of(id=ids).id_names[:3] == ("[1]", "[1, 2]", "a")


@pytest.mark.parametrize("largest", [LARGEST, 2**64 - 1])
def test_groups_of_any_number_stay_apart(largest):
    numbers = np.array([largest, largest, *range(8)], np.uint64 if largest > LARGEST else np.int64)
    groups = of(duplicate_group=numbers).groups
    assert groups[0] == groups[1]
    assert len(np.unique(groups)) == 9
    alone = of(duplicate_group=np.array([LARGEST, LARGEST, *[-1] * 8])).groups
    assert len(np.unique(alone)) == 9


@pytest.mark.parametrize("missing", ["", "-1", "NA", "#N/A", "null", "None", "NaN", "noise"])
def test_whatever_stands_for_no_group_makes_no_duplicates(missing):
    groups = of(duplicate_group=["a", "a", *[missing] * 8]).groups
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 9


def test_whole_numbers_are_not_rounded():
    features = of(features=np.arange(10)[:, None] + 2**40).features
    assert features[:, 0].tolist() == [2**40 + k for k in range(10)]
    assert of(features=np.arange(10)[:, None]).features.dtype == np.float32
