"""AWS Session Manager as a way out: sessions over WebSockets, and streams through them."""
