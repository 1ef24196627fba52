"""Step 0 as a job over a folder: parallel, resumable, with labels in tow and a report of every picture."""
