"""Training as if modalities were missing."""

from __future__ import annotations

from mmfuse.errors import InputError, listed, nearest
from mmfuse.objectives.base import Objective, several
from mmfuse.transforms.base import Transform, number
from mmfuse.transforms.missing import DropModality


class ModalityDropout(Objective):
    """Modality dropout (ModDrop, Neverova et al. 2016, TPAMI 38(8), arXiv:1501.00102).

    ``x_m <- delta_m x_m``, ``delta_m ~ Bernoulli(1 - p)``: in training each modality is absent with
    probability p, independently, but never all of an example; see the transform ``drop_modality``.
    ``modalities`` are those that may be dropped, by default all that the row reads.

    Differs from the paper: masks say that a modality is absent, where the paper only zeroes it; no
    training of the modalities one by one before.
    """

    p: float = 0.2
    modalities: tuple[str, ...] = ()

    def check(self) -> None:
        """Ranges of the fields."""
        number("p", self.p, 0, 1)
        if isinstance(self.modalities, str):
            raise InputError(f"modalities must be a list of names, got {self.modalities!r}")

    def fits(self, modalities: tuple[str, ...], transforms: tuple[Transform, ...]) -> None:
        """At least two modalities, among them those that are named."""
        several(modalities)
        for name in self.modalities:
            if name not in modalities:
                raise InputError(
                    f"the row reads no modality '{name}'{nearest(name, modalities)}"
                    f"{listed(modalities)}"
                )

    def transforms(self, modalities: tuple[str, ...]) -> tuple[Transform, ...]:
        """One drop for each modality."""
        dropped = self.modalities or modalities
        return tuple(DropModality(modality=m, p=self.p, keep_one=True) for m in dropped)
