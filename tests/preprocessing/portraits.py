"""Small labelled videos with a real face, made from the public-domain portrait that scikit-image ships."""

from pathlib import Path

import numpy as np

from preprocessing.samples import moving_portrait, write_video

FRAMES = 24


def make_videos(root: Path) -> Path:
    """real/a, real/b and their fakes of the same names, a room without a face, and a file that is no video."""
    pictures = list(moving_portrait(FRAMES + 6))
    for folder in ("real", "fake"):
        (root / folder).mkdir(parents=True)
    write_video(root / "real/a.mp4", pictures[:FRAMES])
    write_video(root / "real/b.mp4", [np.ascontiguousarray(p[:, ::-1]) for p in pictures[:FRAMES]])
    write_video(root / "fake/a.mp4", pictures[6:])
    write_video(root / "fake/b.mp4", [np.ascontiguousarray(p[:, ::-1]) for p in pictures[6:]])
    wall = np.broadcast_to(np.linspace(60, 160, 448)[None, :, None], (448, 448, 3)).astype(np.uint8)
    write_video(root / "real/wall.mp4", [np.ascontiguousarray(wall)] * FRAMES)
    (root / "fake/broken.mp4").write_bytes(b"no video at all, but long enough to be looked at" * 40)
    return root
