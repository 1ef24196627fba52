"""Manifests: data sets as JSON lines or Parquet, read lazily, pinned by content."""
