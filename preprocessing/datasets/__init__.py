"""Known data sets by their layout on disk: which videos there are, their labels, people, masks and official splits."""

from preprocessing.datasets.items import FAKE, REAL, SPLITS, DatasetError, DatasetIndex, Item
from preprocessing.datasets.registry import detect, find_layout, index_dataset, layout, names
from preprocessing.datasets.splits import identity_groups, leaks, split_by_groups, split_by_people, split_notes
from preprocessing.datasets.tree import Tree

__all__ = [
    "FAKE",
    "REAL",
    "SPLITS",
    "DatasetError",
    "DatasetIndex",
    "Item",
    "Tree",
    "detect",
    "find_layout",
    "identity_groups",
    "index_dataset",
    "layout",
    "leaks",
    "names",
    "split_by_groups",
    "split_by_people",
    "split_notes",
]
