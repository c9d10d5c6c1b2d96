"""The kinds of user, one file each; `loadtests.kinds` gives them the names by which they are chosen."""
