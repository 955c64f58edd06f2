"""Optimizers compared on models and data that nothing is meta-trained on."""
