"""Measures of uncertainty, one file each."""
