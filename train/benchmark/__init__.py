"""Our figures beside the peers' in one run, and counts that noise leaves alone."""
