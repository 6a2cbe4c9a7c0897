"""What a triple that is judged true or false is for: the column ``label_role``."""

JUDGED, CALIBRATES = 1, 2  # it counts; thresholds are chosen by it; to be added
