"""Annotation by others: packages out, deliveries in, checked, judged and merged."""
