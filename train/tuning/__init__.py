"""Architecture search with KerasTuner: spaces as data, limits checked before a net is trained."""
