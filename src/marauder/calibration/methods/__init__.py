"""Methods of calibration, one file each; the plug point ``calibration_method``."""
