"""After a disaster: a database that was restored is given what only the log still knows."""
