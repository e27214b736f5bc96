"""Robustness of a classifier on a data set: clean and certified accuracy per radius."""
