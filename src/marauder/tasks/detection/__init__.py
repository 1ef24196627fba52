"""Detection: settings, data, training, evaluation, gate evidence and report of a detector."""
