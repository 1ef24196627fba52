"""Self-supervised pretraining of a detector's backbone: network, methods, signs of collapse."""
