"""Records of a small made-up ablation, for the tests of tables."""

SCORES = {
    "text": (0.60, 0.62, 0.61),
    "concat": (0.80, 0.81, 0.85),
    "cross_attention": (0.90, 0.92, 0.91),
}


def make_record(row, seed, accuracy, **changes):
    return {
        "format": 1, "row": row, "seed": seed, "status": "done",
        "config": {"seeds": [0, 1, 2], "fusion": {"name": row}, "train": {"lr": 0.1}},
        "row_config": {"fusion": {"name": row}},
        "metrics": {
            "valid": {"accuracy": 0.99},
            "test": {"accuracy": accuracy, "f1_macro": accuracy - 0.01, "loss": 1 - accuracy,
                     "confusion": [[1, 2], [3, 4]]},
        },
        "selected": {"step": 30, "epoch": 2, "by": "valid accuracy"},
        "test_opening": {"run": f"{row}, seeds {seed}", "purpose": "score"},
        "params_sha256": f"{row}{seed}", "predictions_sha256": f"{row}{seed}",
        "parameters": 12345, "flops_per_example": 1234567,
        "reads": ["text", "image"], "reference_row": 0.975 if row == "text" else 0.98,
        "reference": [{"name": "Bayes optimum (text+image)", "metric": "accuracy", "value": 0.98}],
        "clock": {"compile_seconds": 3.0, "train_seconds": 12.3 + seed, "finished_at": "now"},
        "device": {"kind": "cpu", "count": 2}, "mode": "pmap", "replica_width": 3,
        "versions": {"mmfuse": "0.1.0", "jax": "0.10.2", "python": "3.11.7"},
        "code_sha256": "c0de" * 16,
        "git": {"commit": "0123456789abcdef" * 2, "dirty": True, "diff": "feedbeef"},
        "data": {"name": "helpdesk", "fingerprint": "f" * 64, "card": {"clips": 3}},
    } | changes  # fmt: skip


def all_records():
    """Three rows of three seeds."""
    return [make_record(row, s, x) for row, xs in SCORES.items() for s, x in enumerate(xs)]
