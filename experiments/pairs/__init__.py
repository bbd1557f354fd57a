"""Wrong solutions to problems with a right one, and the check of every pair."""
