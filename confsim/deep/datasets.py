"""The names of :mod:`confsim.deep.data` under the path that version 0.1 had."""

from confsim.deep.data.duplicates import exact_groups, merge_groups, near_groups
from confsim.deep.data.duplicates import listed_groups as _listed_groups
from confsim.deep.data.loading import CHOICES, NAMED, Dataset, check_name, load
from confsim.draws import stratified

__all__ = [
    "CHOICES",
    "NAMED",
    "Dataset",
    "_listed_groups",
    "check_name",
    "exact_groups",
    "load",
    "merge_groups",
    "near_groups",
    "stratified",
]
