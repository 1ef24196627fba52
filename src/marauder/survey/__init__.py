"""Detections over pictures and videos: counts, MaxN, files for other tools, a page to look at."""

from marauder.survey.job import predict_files
from marauder.survey.settings import PredictSettings

__all__ = ["PredictSettings", "predict_files"]
