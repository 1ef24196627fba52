"""Choosing pictures: which are worth labelling, by uncertainty and by diversity."""
