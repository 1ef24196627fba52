"""Step 6: members trained for roles, several detectors made one predictor, with what each of them adds."""
