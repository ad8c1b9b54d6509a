"""Upstreams that we add to S3PRL's hub."""
