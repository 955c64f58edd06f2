"""`LearnedOptimizer`, and how it runs a rule."""
