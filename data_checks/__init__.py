"""What good bars are."""
