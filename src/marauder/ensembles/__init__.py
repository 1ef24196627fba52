"""Step 6: several detectors made one predictor, with what each of them adds."""
