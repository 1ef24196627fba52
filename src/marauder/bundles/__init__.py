"""Bundles for boards: graphs that the board's TensorRT reads, with fixtures by which the board tests its own engine."""
