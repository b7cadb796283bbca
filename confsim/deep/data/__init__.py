"""Where images come from: named and own data sets, read exactly or refused by name.

A reader per kind of file turns foreign bytes into arrays in memory; nothing is extracted, executed
or taken on trust, and nothing is left out without a note::

    loading  ->  folder     ->  archive -> tar      class folders: directory, tar, zip
                            ->  pictures            PNG, JPEG, ... to 8-bit grey or RGB
                 arrays     ->  archive             NumPy archives
                 downloads  ->  cifar, idx, arrays  official files; what Keras keeps; downloads
                                cifar -> pickles    a parser of the official pickles
                 duplicates                         equal, near, and listed ones

``limits`` (regular files only, bounded unpacking, one line that names the file) serves them all. No
reader knows of trials, models or splits.
"""

from confsim.deep.data.loading import CHOICES, NAMED, Dataset, check_name, load
from confsim.draws import stratified

__all__ = ["CHOICES", "NAMED", "Dataset", "check_name", "load", "stratified"]
