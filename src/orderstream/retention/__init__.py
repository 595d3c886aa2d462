"""`orderstream prune`: forgets orders that are over, so that the stores do not grow for ever."""
