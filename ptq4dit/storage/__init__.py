"""Files that are whole or not there, read strictly, and the record of what made them."""
