"""One file a format: each turns what a tool wrote into entries, for data sets and for deliveries alike."""
