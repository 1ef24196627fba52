"""The generated reef: seeded underwater pictures with exact boxes, seen through a physical model of water."""
