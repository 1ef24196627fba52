"""Fitting on labelled pictures what predictors then apply: curves from scores to how often they are right."""
