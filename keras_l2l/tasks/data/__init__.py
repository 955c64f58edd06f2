"""Data of tasks."""
