"""Known vulnerabilities of pinned packages: python .ci/audit.py [REQUIREMENTS]

Fails on each that is found and not excused below. Where the network is closed nothing can be asked: it says so, and is
no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXCUSED: dict[str, str] = {}
"""Identifier: why it does no harm here, or that no release mends it. Taken out when there is one."""


def found(report: dict[str, Any]) -> list[str]:
    """A line for each vulnerability in pip-audit's report that is not excused."""
    lines = []
    for package in report["dependencies"]:
        for one in package.get("vulns", ()):
            if not {one["id"], *one.get("aliases", ())} & set(EXCUSED):
                mended = ", ".join(one["fix_versions"]) or "no release"
                lines.append(f"{package['name']} {package['version']}: {one['id']}, mended by {mended}")
    return lines


def main(requirements: str = "constraints.txt") -> int:
    """0 nothing is known, or nobody could be asked; 1 something is."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", requirements, "--no-deps"]
        command += ["--disable-pip", "--progress-spinner", "off", "--format", "json", "--output", str(report)]
        asked = subprocess.run(command, capture_output=True, text=True)
        if not report.exists():  # it writes its report whatever it finds, and none where it could not ask
            print(f"not audited: {(asked.stderr.strip().splitlines() or ['pip-audit says nothing'])[-1][:300]}")
            return 0
        lines = found(json.loads(report.read_text()))
    print("\n".join(lines) or "no known vulnerabilities")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
