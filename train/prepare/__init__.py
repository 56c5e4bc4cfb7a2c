"""From a data set to what training eats: faces found, tracked, landmarked, cut out and stored in shards.

`unmask prepare` writes them (train/prepare/run.py), `PreparedSet` reads them; see docs/datasets.md.
"""

from train.prepare.reader import PreparedSet, Sample
from train.prepare.settings import PrepareError, PrepareSettings

__all__ = ["PrepareError", "PrepareSettings", "PreparedSet", "Sample"]
