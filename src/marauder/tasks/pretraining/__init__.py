"""Pretraining of a backbone without labels: settings, data, training, probe and report."""
