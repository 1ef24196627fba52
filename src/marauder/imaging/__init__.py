"""Underwater image formation, enhancement, quality measures and training augmentation."""
