"""Where a machine says that it will be taken away; one file per source."""
