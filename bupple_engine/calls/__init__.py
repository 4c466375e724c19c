"""What a call is, apart from who makes it: its values, its streams, and its work in threads."""
