"""What every click on the dashboard pays for: Streamlit goes through the whole memory after each run of a page."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_pages_need_no_torch_and_leave_what_modules_hold_out_of_each_collection() -> None:
    code = (
        "import gc, sys; from streamlit.testing.v1 import AppTest; "
        "AppTest.from_file('ui/dashboard/app.py').run(timeout=120); "
        "print(*({'torch', 'av', 'ray'} & set(sys.modules)), gc.get_freeze_count() > 50_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True"]
