"""Datasets, preprocessing and loading."""
