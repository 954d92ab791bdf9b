"""The processes of a benchmark: servers and load generators, each ruled by JSON lines on its standard input."""
