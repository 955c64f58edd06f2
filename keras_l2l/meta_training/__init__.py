"""`meta_train`, and all that a run of it consists of."""
