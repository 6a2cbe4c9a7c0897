"""The programs: ablate, table, list, check, bench."""
