"""Who may do what, and what is told to whom: keys, TLS, passwords, the lock."""
