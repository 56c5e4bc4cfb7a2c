"""Media to frames, faces, tracks, landmarks and crops; pseudo-fakes. Torch alone is enough."""
