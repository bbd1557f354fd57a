"""The report of runs. It reads files only: no model, no numerics."""
