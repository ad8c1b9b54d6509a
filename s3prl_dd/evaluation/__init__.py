"""What a run's results say: its table, several runs side by side, and whether a difference is more than chance."""
