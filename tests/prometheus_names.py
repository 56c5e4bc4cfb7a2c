"""What the code measures, as Prometheus names it."""

import re
from pathlib import Path

from serve import meters


def metrics_of_the_code() -> set[str]:
    """Counters with _total, histograms with their parts, Ray's with its prefix."""
    source = Path(meters.__file__).read_text()
    found = set()
    for kind, name in re.findall(r'(Counter|Histogram|Gauge)\(\s*"(unmask_\w+)"', source):
        prefix = (
            "ray_" if f'metrics.{kind}("{name}"' in source or f'metrics.{kind}(\n            "{name}"' in source else ""
        )
        ends = {"Counter": ["_total"], "Histogram": ["_bucket", "_count", "_sum"], "Gauge": [""]}[kind]
        found |= {f"{prefix}{name}{end}" for end in ends}
    return found
