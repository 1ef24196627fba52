"""Ways to choose, one file each."""
