"""One module a data set layout; see preprocessing/datasets/registry.py."""
