"""The statistics of a comparison table: numbers in, numbers out; numpy and scipy only.

``seeds`` means and intervals over seeds; ``differences`` which rows differ from the baseline;
``groups`` which rows cannot be told apart; ``items`` the noise of the test split; ``several``
rankings over several data sets.
"""

from mmfuse.stats.seeds import Summary, paired, summary

__all__ = ["Summary", "paired", "summary"]
