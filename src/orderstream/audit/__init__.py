"""`orderstream verify`: proves or disproves the promises from the log and the stores alone."""
