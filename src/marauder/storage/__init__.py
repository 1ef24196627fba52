"""Places for files beyond this machine: folders on volumes and object stores behind one small interface."""
