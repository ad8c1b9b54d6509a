"""The recipe: a run's settings, its folder, its stages and its results."""
