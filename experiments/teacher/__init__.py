"""Solutions asked of a teacher behind an OpenAI-compatible endpoint."""
