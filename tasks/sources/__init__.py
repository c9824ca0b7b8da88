"""Where bars come from: files, exchanges, the bundled sample."""
