"""Session Manager's data channel: frames, sequence numbers, hand-shake, streams. No sockets."""
