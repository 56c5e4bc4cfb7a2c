"""Published tables, run again: the authors' protocol with given weights, our figures beside theirs.

One YAML file a table in train/reproduce/protocols; `unmask reproduce` lists and runs them. docs/reproduction.md has
what was run.
"""

from train.reproduce.protocol import Protocol, load_protocol, protocols
from train.reproduce.run import reproduce
from train.reproduce.sheet import Line, ReproduceError, Sheet

__all__ = ["Line", "Protocol", "ReproduceError", "Sheet", "load_protocol", "protocols", "reproduce"]
