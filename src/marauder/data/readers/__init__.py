"""One reader a file; each turns one on-disk layout into a data set of records."""
