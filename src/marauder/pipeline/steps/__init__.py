"""One file for each step; a file in this folder that defines STEP joins the pipeline."""
