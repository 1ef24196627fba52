"""What a run says of itself: the report, its published JSON form, the slice dashboard and the model card."""
