"""Foundations that know nothing of pictures or models: files, settings, clock, randomness, progress, plug points."""
