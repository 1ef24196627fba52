"""Step 5: a detector specialised on critical species, as a series of gated runs."""
