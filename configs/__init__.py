"""One file per table: ``get_config()``, or ``get_config(argument)`` for ``FILE.py:argument``.

Here is what the tables share.
"""


def rows(modalities, methods, *, features, hidden):
    """{name of a row: what it changes}: a unimodal control per modality, late average, concat,
    then ``methods`` {name: fields of its fusion}, all ``features`` wide.
    """
    controls = {f"{m} only": {"name": "unimodal", "modality": m} for m in modalities}
    common = {
        "late average": {"name": "late_average"},
        "concat": {"name": "concat", "hidden": hidden},
    }
    return {
        name: {"fusion": {"features": features, **fusion}}
        for name, fusion in (controls | common | methods).items()
    }


def check(argument, *allowed):
    """Refuses an argument that is neither empty nor allowed."""
    if argument and argument not in allowed:
        raise ValueError(f"unknown argument '{argument}'; allowed: {', '.join(allowed)}")
