"""What each figure of the report is called and how to read it, in the page's order."""

from __future__ import annotations

CAPTIONS: dict[str, tuple[str, str]] = {
    "curves.png": (
        "Training curves",
        "Losses should fall and validation figures rise; where the validation figures turn down while the training "
        "loss goes on falling, the model learns the pictures by heart.",
    ),
    "pr_curves.png": (
        "Precision over recall",
        "Each line is a class: reading from left to right, more boxes are found and more detections are false. The "
        "further to the upper right, the better.",
    ),
    "roc_curves.png": (
        "Is it in the picture at all",
        "For each class, as the confidence asked for falls: across, the share of the pictures without it in which the "
        "detector would see it; up, the share found of the pictures with it. The number is the area under the line: "
        "0.5 is chance, 1 is perfect.",
    ),
    "f1_curve.png": (
        "F1 over confidence",
        "The dotted line is the confidence at which precision and recall balance best on average; a broad hill means "
        "that the choice matters little.",
    ),
    "reliability.png": (
        "Calibration",
        "Of the detections with a given confidence, the share that is right. On the diagonal a confidence of 0.8 is "
        "right four times out of five; below it the detector is too sure of itself. D-ECE is the mean distance from "
        "the diagonal, LaECE also asks for good boxes, LRP adds up bad boxes, false and missed ones; 0 is best.",
    ),
    "confusion_matrix.png": (
        "Confusion matrix",
        "Rows are true classes, columns predicted ones. Off the diagonal: classes taken for each other. Last column: "
        "missed boxes. Last row: false detections.",
    ),
}
"""Title and caption by the figure's file. Slices stand in the page as a table, predictions as single pictures."""
