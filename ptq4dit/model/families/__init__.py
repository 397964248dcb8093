"""What is particular to an architecture, one file each: where its linears are and what absorbs their factors."""
