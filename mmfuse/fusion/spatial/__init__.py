"""Spatial fusion: vectors meet in one common space, at the same time step."""
