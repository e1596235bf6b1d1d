"""Interface to the operating system: files, signals, processors, the terminal."""
