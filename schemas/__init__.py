"""The vocabulary: every value that crosses the log. Imports nothing of ours."""
