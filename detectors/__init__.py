"""Published detectors behind one registry, their weights, calibration, fusion and the analysis pipeline."""
