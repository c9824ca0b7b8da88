"""What good bars are: the rules, their severities, the checks and their Data Docs."""
