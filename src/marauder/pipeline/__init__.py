"""The graph of steps over a workspace."""
