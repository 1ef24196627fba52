"""Portable formats of a trained detector, with checked parity and measured latency."""
