"""Where weights come from: random numbers, a file in this package, a download from the hub."""
