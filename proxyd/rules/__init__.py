"""Who may go where, and by which way: pure."""
