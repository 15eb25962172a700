"""Tables and pages from journals."""
