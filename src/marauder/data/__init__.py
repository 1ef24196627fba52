"""Data sets as records, the readers that make them, and what is checked, mapped, split and drawn from them."""
