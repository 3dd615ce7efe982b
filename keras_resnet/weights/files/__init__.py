"""Files and downloads: arrays by name from files that nobody vouches for; see README.md."""
