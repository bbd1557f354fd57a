"""Problems and texts: where problems come from, what an answer is, and how texts become tokens."""
