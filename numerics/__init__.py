"""The second witness: what sequential and accumulated updates really do, in floating point, on losses of one's own."""
