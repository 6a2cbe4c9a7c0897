"""mmfuse: fusion-method ablations where only the fusion changes."""

__version__ = "0.1.0"
