"""Our downstreams, one folder each, laid out as S3PRL's own; this folder is appended to s3prl.downstream's path."""
