"""Can a fusion method use *when* things happen? ``helpdesk/temporal``, with time-local encoders.

Command    python -m experiments.ablate --config=configs/temporal.py --workdir=runs/temporal
Task       how often a complaint word and a raised voice fall on the same of 8 time steps
Encoders   one word or one 125 ms segment per token, without recurrence or positions: a mean over
           time keeps the counts and loses the timing, so pooled methods stay at their own optimum
"""

from configs import helpdesk


def get_config():
    """The rows of ``configs/helpdesk.py`` over encoders that know nothing of time."""
    config = helpdesk.get_config("temporal")
    config.name = "helpdesk/temporal"
    config.data.preprocess.audio.update(n_fft=200, hop=200)
    with config.encoders.unlocked():
        config.encoders.text = {"name": "text_local", "features": helpdesk.FEATURES, "embed": 16}
        config.encoders.audio = {"name": "mlp", "features": helpdesk.FEATURES, "group": 5}
    # Attention learns examples by heart before it learns to compare steps, unless they are many.
    config.data.builder.n_train = 16_000
    config.train.update(epochs=8, lr=2e-3)
    return config
