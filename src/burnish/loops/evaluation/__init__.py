"""What an evaluation finds out beside how often a model is right."""
