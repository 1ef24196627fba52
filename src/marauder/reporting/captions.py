"""What each figure of the report is called and how to read it, in the page's order."""

from __future__ import annotations

CAPTIONS: dict[str, tuple[str, str]] = {
    "curves.png": (
        "Training curves",
        "Losses should fall and validation figures should rise, except D-ECE, where lower is better. If validation "
        "figures get worse while the training losses still fall, the model is memorising the training pictures.",
    ),
    "pr_curves.png": (
        "Precision over recall",
        "Each line is a class: reading from left to right, more boxes are found and more detections are false. The "
        "further to the upper right, the better.",
    ),
    "roc_curves.png": (
        "Is it in the picture at all",
        "For each class, as the confidence threshold falls: across, the share of pictures without it in which the "
        "detector reports it; up, the share of pictures with it in which the detector finds it. The number is the area "
        "under the line: 0.5 is chance, 1 is perfect.",
    ),
    "f1_curve.png": (
        "F1 over confidence",
        "The dotted line is the confidence at which precision and recall balance best on average; a broad hill means "
        "that the choice matters little.",
    ),
    "reliability.png": (
        "Calibration",
        "The share of detections with a given confidence that are right. On the diagonal a confidence of 0.8 is right "
        "four times out of five; below it the detector is overconfident. For D-ECE (mean distance from the diagonal), "
        "LaECE (which also requires good boxes) and LRP (imprecise, false and missed boxes together) lower is better.",
    ),
    "confusion_matrix.png": (
        "Confusion matrix",
        "Rows are true classes, columns predicted ones. Off the diagonal: classes mistaken for each other. Last "
        "column: missed boxes. Last row: false detections.",
    ),
}
"""Title and caption by the figure's file. The page shows slices as a table and predictions as single pictures."""
