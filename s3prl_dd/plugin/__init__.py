"""All that knows S3PRL: compatibility, registration, launcher, our downstream and our upstreams."""
