"""The report of finished ablations: one HTML page that needs nothing else. No jax here."""
