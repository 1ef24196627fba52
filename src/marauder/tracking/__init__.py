"""Experiment trackers: each follows a run's journal in a process of its own and can never stop the run."""
