"""Step 6: several detectors that answer as one, each trained for a role, fused, and profiled for its device."""
