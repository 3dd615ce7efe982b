"""Studies: comparisons of nets under one budget, and analyses of single nets."""
