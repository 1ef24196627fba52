"""Step 7: detectors trained on at changing picture sizes, each a gated run, and what that changed."""
