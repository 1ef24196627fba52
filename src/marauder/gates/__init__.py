"""Verdicts on a run: each gate judges evidence that was collected before, and says pass, warn, fail or off."""
