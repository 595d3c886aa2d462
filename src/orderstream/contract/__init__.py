"""What the services say to one another: values, events, topics, errors. Imports nothing of ours."""
