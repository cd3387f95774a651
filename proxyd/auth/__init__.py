"""Who a client is, where proxyd itself decides it: tokens and the keys they are signed with."""
