"""Hard negatives: what a detector takes for an animal and is none, found in the user's own pictures, for training."""
