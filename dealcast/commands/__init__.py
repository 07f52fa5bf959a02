"""The commands, a module for each subject: what each takes, and its result as people see it."""
