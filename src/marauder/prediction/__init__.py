"""From pictures to boxes: predictors of every kind of model file, decoding, views, fusion, calibrated scores."""
