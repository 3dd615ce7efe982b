"""Speed and memory of this package beside other libraries, measured in one run."""
