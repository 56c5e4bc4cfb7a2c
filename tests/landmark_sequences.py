"""Landmark sequences as train/landmark_data.py writes them, drawn instead of measured: a fake jitters more."""

import json
from pathlib import Path

import numpy as np


def write_sequences(folder: Path, views: int = 8, frames: int = 90) -> Path:
    folder.mkdir(parents=True)
    for view in range(views):
        rng = np.random.default_rng(view)
        real = rng.uniform(100, 300, 136) + np.cumsum(rng.normal(0, 0.3, (frames, 136)), axis=0)
        fake = real + rng.normal(0, 3, real.shape)
        split = "validation" if view % 4 == 3 else "train"
        made = {"split": split, "video": f"v{view}", "extractor": "dlib68", "box_every": 4}
        arrays = {"real": np.rint(real).astype(np.int16), "fake0": np.rint(fake).astype(np.int16)}
        np.savez(folder / f"v{view}.npz", made=json.dumps(made), **arrays)
    return folder
