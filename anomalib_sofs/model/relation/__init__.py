"""The default head: relation maps in closed form, one file per idea."""
