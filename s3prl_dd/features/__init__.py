"""Features of speech: which are meant (FeatureSpec), how they are extracted, and the store that holds them."""
