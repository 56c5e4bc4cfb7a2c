"""Configs of the graph, in Ray Serve's own YAML."""
