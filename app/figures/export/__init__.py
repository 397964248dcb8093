"""Any chart of the app as a file: its data as a table, its picture for print."""
