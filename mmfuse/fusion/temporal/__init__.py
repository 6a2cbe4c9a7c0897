"""Temporal fusion: modalities meet along time, step by step or by attention over all steps."""
