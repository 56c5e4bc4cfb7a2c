"""The composition graph on Ray Serve: gateway, tracking, landmarks, detector groups; the job store and the launcher."""
