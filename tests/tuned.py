"""A small tuning in a process of its own, which the tests kill."""
