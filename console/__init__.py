"""What the commands of every room share and no mathematics: options, output files, the terminal."""
