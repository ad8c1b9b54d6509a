"""What the server of workers.py imports before its first fork."""

from .workers import preload

preload()
