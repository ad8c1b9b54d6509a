"""S3PRL downstream `distilled_emotion`: S3PRL's emotion head, trained on samples from a generator file."""
