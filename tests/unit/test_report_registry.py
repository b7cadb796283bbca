"""What a figure needs, and the words for what is missing."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from confsim.report.registry import has_table


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"memorization": [0.5, np.nan]}, None),
        ({"memorization": [np.nan, np.nan]}, "no memorization is known"),
        ({"accuracy": [1.0]}, "the table of memorization has no memorization"),
        ({}, "there is no table of memorization"),
    ],
)
def test_a_table_of_nothing_known_makes_no_figure(table, words):
    context = SimpleNamespace(
        tables={"memorization": pd.DataFrame(table)}, notes=[], has=lambda name: True
    )
    assert has_table("memorization", "memorization")(context) == words
