"""What is left of the speaker: attacks on samples, and speaker identification on SER heads."""
