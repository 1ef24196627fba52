"""The training loop: state, checkpoints, loading, schedule, precision, averaging, distribution, guards."""
