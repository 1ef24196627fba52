"""What others get of a run, durably and later: a journal, and followers of it in processes of their own."""
