"""A run: its inputs, the update of an arm, the loop, checkpoints and records."""
