"""3c: answer "where is my order": every event of the flow folded into one row per order."""
