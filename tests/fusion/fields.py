"""The smallest fields with which every method is tried; a test checks that none is forgotten."""

FIELDS = {
    "unimodal": {"features": 4, "modality": "text"},
    "late_average": {"features": 4},
    "concat": {"features": 4, "hidden": 8},
    "gmu": {"features": 4},
    "tfn": {"features": 4, "width": 3},
    "early_lstm": {"features": 4},
    "crossmodal": {"features": 4, "heads": 2},
    "self_cross": {"features": 4},
    "mbt": {"features": 4, "heads": 2, "bottlenecks": 2},
}
