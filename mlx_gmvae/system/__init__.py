"""What the operating system gives: files, signals, processors, the terminal."""
