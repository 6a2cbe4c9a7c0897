"""Deep fusion: modalities meet at several layers."""
