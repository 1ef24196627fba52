"""The student of an ensemble: one small detector, taught by a teacher's boxes on labelled and unlabelled pictures."""
