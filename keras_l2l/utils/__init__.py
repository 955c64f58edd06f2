"""Helpers of all packages: backends, checks, nests and files."""
