"""Tasks: a data set and its grader in one value, one family a file."""
