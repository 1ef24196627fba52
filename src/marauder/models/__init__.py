"""Detectors as plain modules, their losses, and the files they are stored in."""
