"""Users' own files: a manifest is read (`table`), each cell opened (`cells`), everything that is
wrong with them found at once (`checks`, `survey`), and the rest made a dataset (`files`).
"""
