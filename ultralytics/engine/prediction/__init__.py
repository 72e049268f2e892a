"""What a predictor has for one pass over a source."""
