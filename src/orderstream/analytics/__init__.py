"""3b: count: outcomes, rates, best sellers, how long a decision took."""
