"""Architecture search with KerasTuner: spaces as data, limits checked before training."""
