"""How boxes of several detectors become those of one. The plug point ``fusion``."""
