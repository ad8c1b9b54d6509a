"""The paper's tables, and what lies beyond them, as grids of runs."""
