"""Metrics of accuracy and of robustness on arrays of scores."""
