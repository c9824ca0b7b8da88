"""Find damage in a home and repair it, back up a home and restore it, and delete what is kept no longer."""
