"""What is decided: challenger against champion, committing a decision, rollback, audit, warm start, status."""
