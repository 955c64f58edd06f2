"""What every package here may use: backends, checks, nests and files."""
