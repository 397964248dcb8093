"""One file a tab, each with one `create_<name>_tab(shared)`."""
