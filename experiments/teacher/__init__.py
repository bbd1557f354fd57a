"""Right solutions from a teacher behind an endpoint that speaks OpenAI's language."""
